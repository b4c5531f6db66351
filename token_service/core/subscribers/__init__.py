"""Subscribers of the revocation stream, and their confirmations."""
