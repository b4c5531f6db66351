"""Use cases that change several features at once."""
