"""The revocation stream."""
