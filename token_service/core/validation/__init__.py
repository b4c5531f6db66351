"""Validation of tokens."""
