"""The validator's copy of the revocations, and what keeps it up to date."""
