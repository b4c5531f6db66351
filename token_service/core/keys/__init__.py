"""Keys: their life, who changes them, and what is signed and read with them."""
