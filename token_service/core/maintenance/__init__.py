"""Forgetting what no one needs any more."""
