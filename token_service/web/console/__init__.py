"""The operators' console: pages of HTML for browsers, with the rights and the use cases of the gRPC services."""
