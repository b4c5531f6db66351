"""The vectors of `tests/vectors/validation`: tokens, revocations and proofs with the expected verdicts."""
