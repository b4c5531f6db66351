"""X.509: the content of certificates and the checks of their validity."""
