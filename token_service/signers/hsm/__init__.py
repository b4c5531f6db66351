"""Signing keys in a hardware security module (PKCS#11)."""
