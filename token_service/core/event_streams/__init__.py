"""Event streams: security event tokens for receivers (OpenID Shared Signals Framework 1.0, the transmitter)."""
