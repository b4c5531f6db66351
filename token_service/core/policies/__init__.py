"""Lifetimes and rules by classification."""
