"""What a token is: formats, verification, revocation. Pure: no I/O, no clock, no randomness."""
