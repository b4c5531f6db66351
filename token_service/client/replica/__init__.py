"""A replica of the live revocations: what it is, and the two ways to keep it up to date."""
