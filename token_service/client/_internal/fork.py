"""Validators in a process that forks after their start.

The threads, tasks and connections that update a validator stay in the parent, and gRPC does not support a child of a
process that uses gRPC. RevokeToken waits for the parent's replica only, and the child would not receive the revocation.
Therefore the copy in the child refuses every token from the start.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final, NoReturn, Protocol
from weakref import WeakSet

from token_service.errors import ValidatorForkedError


class Forkable(Protocol):
    """Started object that must know about a fork."""

    def abandon(self) -> None:
        """Refuse every token from now on. The child process calls this; it must not use started threads or channels."""
        ...


_started: Final[WeakSet[Forkable]] = WeakSet()


def started(what: Forkable) -> None:
    """Register `what` for forks of this process, until `ended`."""
    _started.add(what)


def ended(what: Forkable) -> None:
    """Unregister `what`."""
    _started.discard(what)


def refuse(token: str, audience: str | None, required_scopes: Collection[str]) -> NoReturn:
    """Replace `LocalValidator.check` in the child and raise."""
    del token, audience, required_scopes
    raise ValidatorForkedError


def _abandon_all() -> None:
    for what in tuple(_started):
        what.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_abandon_all)
