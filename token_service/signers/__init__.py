"""Where private keys sign: in this process, or in a hardware module."""
