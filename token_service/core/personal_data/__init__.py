"""Personal data at rest: the cipher, its keys, and the state of the encryption of a database."""
