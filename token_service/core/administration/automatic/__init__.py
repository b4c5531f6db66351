"""Automatic revocation: sessions that break the limits of their classification, and events that reach a threshold."""
