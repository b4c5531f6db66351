"""The gateway: answers the authorization checks of Envoy, nginx and other proxies with a validator of the client library."""
