"""The gRPC server: what every call passes, TLS and standard services."""
