"""Numbers about a validator, for whatever metrics library there is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Counters:
    """Counts since the validator was made. All only grow; read them at any time from any thread.

    Validations answered from the cache alone are not counted: counting would cost a tenth of them.
    Where many threads validate at once a count may be missed, as no lock is taken for it.
    """

    verified: int = 0
    """Signatures verified: tokens seen for the first time."""
    rejected: Counter[str] = field(default_factory=Counter)
    """Tokens rejected, by `InvalidReason`."""
    unproven: int = 0
    """Validations that found what is known not proven fresh."""
    accepted_stale: int = 0
    """Tokens accepted by `WhenStale.ACCEPT`."""
    rejected_stale: int = 0
    """Validations ended with `ReplicaStaleError`."""
    remote_calls: int = 0
    """`ValidateToken` calls."""
    remote_failures: int = 0
    """`ValidateToken` calls that were not answered."""
    revocations: int = 0
    """Entries applied from the stream, snapshots apart."""
    resets: int = 0
    """Snapshots loaded."""
    streams: int = 0
    """Streams opened."""
    stream_ends: Counter[str] = field(default_factory=Counter)
    """Streams ended, by the reason or status they ended with."""
    probes: int = 0
    """Freshness probes sent."""
    probe_failures: int = 0
    """Freshness probes not answered."""
    key_sets: int = 0
    """Key sets taken over."""
    key_sets_refused: int = 0
    """Key sets without a usable key, of another issuer, or older than the current one; the current one
    stayed.
    """
    key_refreshes: int = 0
    """Key sets fetched because of an unknown `kid` or because it was time."""
    key_refresh_failures: int = 0
    """Key sets that could not be fetched."""

    def as_dict(self) -> dict[str, Any]:
        """A copy: numbers, and for the two broken down by reason dictionaries of numbers."""
        return {
            name: dict(value) if isinstance(value, Counter) else value
            for name in self.__slots__
            for value in [getattr(self, name)]
        }
