"""Policies: lifetimes and rules by classification."""
