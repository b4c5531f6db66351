"""Composition of a node, and its processes."""
