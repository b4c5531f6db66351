"""Issuing and refreshing tokens."""
