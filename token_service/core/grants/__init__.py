"""Grants: what a client presents at the token endpoint, and the tokens that it gets for it (RFC 6749, section 1.3)."""
