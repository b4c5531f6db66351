"""One entry of the revocation log, and a place in it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

MAX_LEEWAY: Final = 300
"""Seconds a validator may allow for clocks that differ; revocations are remembered that much longer."""

_CURSOR = re.compile(r"([A-Za-z0-9_-]{8,32}):(0|[1-9][0-9]{0,18})")


class RevocationTarget(IntEnum):
    """What an entry revokes."""

    TOKEN_ID = 1
    """One JWT, by its `jti`."""
    SESSION = 2
    """All tokens of a session, by its `sid`."""
    SUBJECT = 3
    """What was issued for a subject before the entry."""
    CLIENT = 4
    """What was issued to a client before the entry."""
    KEY = 5
    """All tokens signed with a key, by its `kid`."""
    EVERYTHING = 6
    """What was issued before the entry."""


class RevocationReason(IntEnum):
    """Why, numbered as in `token_service.proto`."""

    UNSPECIFIED = 0
    LOGOUT = 1
    COMPROMISED = 2
    ADMINISTRATIVE = 3
    REFRESH_TOKEN_REUSED = 4
    CREDENTIALS_CHANGED = 5
    CLIENT_DISABLED = 6


@dataclass(frozen=True, slots=True)
class Revocation:
    """An entry of the log. Times are NumericDates in seconds."""

    sequence: int
    target: RevocationTarget
    value: str
    """The id of the target; empty for EVERYTHING."""
    revoke_time: float
    expire_time: float
    """After this no token it could hit is valid."""
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    token_expire_time: int | None = None
    """`exp` of a revoked token id; None if it was not known."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """A place in the log: all entries up to `sequence` of the log named `epoch`.

    Means the same on every node.
    """

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """The cursor in `text`. Raises `ValueError`."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("not a cursor")
        return cls(match[1], int(match[2]))
