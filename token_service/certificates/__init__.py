"""X.509: what certificates say, and whether that counts now."""
