"""Keys: their lifecycle, their changes, and their use for signing and reading tokens."""
