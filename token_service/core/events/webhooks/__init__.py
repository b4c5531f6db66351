"""Webhooks: the events of the service, posted to URLs that operators name."""
