"""The HTTP edge: the public keys and the state of this process."""
