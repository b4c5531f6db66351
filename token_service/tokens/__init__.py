"""Tokens: formats, verification, revocation. The package has no I/O, no clock and no randomness."""
