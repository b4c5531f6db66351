"""Signers: private keys in this process or in a hardware security module."""
