"""Sessions: their rows, their store, and browsing."""
