"""Validators in a process that is forked after they were started.

The threads, tasks and connections that keep a validator up to date stay in the parent, and gRPC makes no promise
for a child of a process that uses it. So the copy in the child refuses every token from the moment it exists:
what RevokeToken waited for is the parent's, and the child would know nothing of it.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from typing import Final, NoReturn, Protocol
from weakref import WeakSet

from token_service.errors import ValidatorForkedError


class Forkable(Protocol):
    """What has been started."""

    def abandon(self) -> None:
        """Refuse everything from now on. Called in the child; touches nothing that was started."""
        ...


_started: Final[WeakSet[Forkable]] = WeakSet()


def started(what: Forkable) -> None:
    """Tell `what` if this process is forked, until it has `ended`."""
    _started.add(what)


def ended(what: Forkable) -> None:
    """The opposite of `started`."""
    _started.discard(what)


def refuse(token: str, audience: str | None, required_scopes: Collection[str]) -> NoReturn:
    """Take the place of `LocalValidator.check` in the child."""
    del token, audience, required_scopes
    raise ValidatorForkedError


def _abandon_all() -> None:
    for what in tuple(_started):
        what.abandon()


if hasattr(os, "register_at_fork"):  # not on Windows, which has no fork
    os.register_at_fork(after_in_child=_abandon_all)
