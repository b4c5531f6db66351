"""Overrides of the policies in the database, shared by all nodes."""
