"""Registered clients: their records, their secrets, and each node's copy of the registry."""
