"""The reachable states of a model, each visited once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import Generic, TypeVar

S = TypeVar("S", bound=Hashable)


@dataclass(frozen=True)
class Exploration(Generic[S]):
    """The result of an exploration."""

    states: int
    steps: frozenset[str]
    """Every step taken."""
    counterexample: tuple[str, ...] | None
    """The steps of a shortest path to a wrong state; None without such a state."""


def explore(
    initial: Iterable[S],
    successors: Callable[[S], Iterable[tuple[str, S]]],
    is_wrong: Callable[[S], bool],
) -> Exploration[S]:
    """Visit states in order of distance, up to the first wrong state."""
    came_from: dict[S, tuple[str, S] | None] = dict.fromkeys(initial)
    waiting = deque(came_from)
    steps: set[str] = set()
    while waiting:
        state = waiting.popleft()
        for step, following in successors(state):
            steps.add(step)
            if following in came_from:
                continue
            came_from[following] = step, state
            if is_wrong(following):
                return Exploration(len(came_from), frozenset(steps), _way_to(following, came_from))
            waiting.append(following)
    return Exploration(len(came_from), frozenset(steps), None)


def _way_to(state: S, came_from: dict[S, tuple[str, S] | None]) -> tuple[str, ...]:
    way: list[str] = []
    while (last := came_from[state]) is not None:
        step, state = last
        way.append(step)
    return tuple(reversed(way))
