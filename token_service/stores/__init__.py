"""Adapters of the ports of `core`: SQL databases and Redis."""
