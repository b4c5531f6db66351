"""Sessions: what one is, where they are kept, and browsing them."""
