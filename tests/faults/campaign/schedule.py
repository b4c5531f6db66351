"""The order and the times of faults: chosen by a seed, alone and overlapping."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.faults.campaign.faults import Fault


@dataclass(frozen=True)
class Planned:
    """A fault with its times in a round."""

    fault: Fault
    after: float
    lasts: float


class Schedule:
    """Deals faults like cards: every kind comes once before a kind comes again."""

    def __init__(
        self, faults: Sequence[Fault], rng: random.Random, bound: float, kinds: Sequence[str] = ()
    ) -> None:
        """`bound`: S. `kinds`: if given, only these kinds, one fault per round, each for longer than S."""
        self._by_kind: defaultdict[str, list[Fault]] = defaultdict(list)
        for fault in faults:
            if kinds and fault.kind not in kinds:
                continue
            self._by_kind[fault.kind].append(fault)
        self._rng = rng
        self._lasts = (2.5 * bound, 4 * bound) if kinds else (0.2, 3 * bound)
        self._numbers = [1] if kinds else [1, 2, 2, 3, 3, 4]
        self._deck: list[str] = []

    def next(self) -> list[Planned]:
        """Return the faults of one round. No two of them touch the same part."""
        chosen: list[Planned] = []
        touched: set[str] = set()
        for _ in range(self._rng.choice(self._numbers)):
            fault = self._draw(touched)
            if fault is None:
                continue
            touched |= fault.touches
            lasts = self._rng.uniform(*(fault.lasts or self._lasts))
            chosen.append(Planned(fault, self._rng.uniform(0, 1.5) if chosen else 0.0, lasts))
        return chosen

    def _draw(self, touched: set[str]) -> Fault | None:
        if not self._deck:
            self._deck = sorted(self._by_kind)
            self._rng.shuffle(self._deck)
        for position, kind in enumerate(self._deck):
            fitting = [fault for fault in self._by_kind[kind] if not fault.touches & touched]
            if fitting:
                del self._deck[position]
                return self._rng.choice(fitting)
        return None
