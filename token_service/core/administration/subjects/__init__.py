"""A person's requests: export and erasure of what the service holds about a subject."""
