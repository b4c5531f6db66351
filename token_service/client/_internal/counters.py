"""Validator counters, for any metrics library."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Counts since the creation of the validator. Every count only grows, and any thread may read it at any time.

    Validations that the cache alone answers are not counted: counting would add a tenth to their cost.
    Counting takes no lock, so concurrent threads may lose a count.
    """

    verified: int = 0
    """Signatures verified, i.e. tokens that were not in the cache."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Tokens rejected, by `InvalidReason`."""
    unproven: int = 0
    """Validations that found the replica not proven fresh."""
    accepted_stale: int = 0
    """Tokens accepted by `WhenStale.ACCEPT`."""
    rejected_stale: int = 0
    """Validations ended with `ReplicaStaleError`."""
    remote_calls: int = 0
    """`ValidateToken` calls."""
    remote_failures: int = 0
    """`ValidateToken` calls that were not answered."""
    revocations: int = 0
    """Entries applied from the stream, without snapshots."""
    resets: int = 0
    """Snapshots loaded."""
    streams: int = 0
    """Streams opened."""
    stream_ends: Counter[str] = field(default_factory=Counter)
    """Streams ended, by the reason or status of the end."""
    probes: int = 0
    """Freshness probes sent."""
    probe_failures: int = 0
    """Freshness probes not answered."""
    key_sets: int = 0
    """Key sets accepted."""
    key_sets_refused: int = 0
    """Key sets refused: without a usable key, of another issuer, or older than the current key set."""
    key_refreshes: int = 0
    """Key sets fetched because of an unknown `kid` or at the interval."""
    key_refresh_failures: int = 0
    """Key sets that could not be fetched."""

    def as_dict(self) -> dict[str, Any]:
        """Return a copy: numbers, and dictionaries of numbers for counters broken down by reason."""
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name in self.__slots__
            for value in [getattr(self, name)]
        }
