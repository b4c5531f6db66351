"""Whether a token is good now."""
