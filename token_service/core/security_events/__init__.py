"""Security events of identity providers (OpenID Shared Signals Framework 1.0), received and turned into revocations."""
