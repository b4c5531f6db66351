"""How fast revocations reached the subscribers of all nodes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import ceil

from token_service.core.subscribers.node_details import Reached


@dataclass(frozen=True, slots=True)
class PropagationSummary:
    """The times, in seconds, from revocations to the last confirmation of a subscriber. All 0 without measurements."""

    count: int = 0
    median: float = 0.0
    p99: float = 0.0
    longest: float = 0.0
    last_time: float = 0.0
    """The time of the last measured revocation, in seconds since the Unix epoch."""
    reached: Sequence[Reached] = ()
    """The measured revocations, in the order of the log."""


def summarize(nodes: Iterable[Sequence[Reached]], lowest: float) -> PropagationSummary:
    """Join the measurements of all nodes.

    A revocation has reached all subscribers when it has reached those of the slowest node. One above `lowest`, the
    sequence that all subscribers have confirmed, is still on its way and does not count.
    """
    slowest: dict[int, Reached] = {}
    for each in (each for measured in nodes for each in measured):
        known = slowest.get(each.sequence)
        if each.sequence <= lowest and (known is None or known.seconds < each.seconds):
            slowest[each.sequence] = each
    if not slowest:
        return PropagationSummary()
    reached = tuple(slowest[sequence] for sequence in sorted(slowest))
    seconds = sorted(each.seconds for each in reached)
    return PropagationSummary(
        len(seconds),
        _percentile(seconds, 0.5),
        _percentile(seconds, 0.99),
        seconds[-1],
        max(each.revoke_time for each in reached),
        reached,
    )


def _percentile(ordered: Sequence[float], share: float) -> float:
    """Return the smallest value that at least this share of the values does not exceed."""
    return ordered[ceil(share * len(ordered)) - 1]
