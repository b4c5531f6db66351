"""Adapters of the ports in `core.ports`: SQL databases, Redis, and memory for tests."""
