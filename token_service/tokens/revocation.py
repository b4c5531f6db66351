"""An entry of the revocation log, and a place in the log."""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

import msgspec

MAX_LEEWAY: Final = 300
"""The largest leeway of a validator for differing clocks, in seconds. Revocations are kept that much longer."""

_CURSOR = re.compile(r"([A-Za-z0-9_-]{8,32}):(0|[1-9][0-9]{0,18})")


class RevocationTarget(IntEnum):
    """The kind of target of an entry."""

    TOKEN_ID = 1
    """One JWT, by its `jti`."""
    SESSION = 2
    """All tokens of a session, by its `sid`."""
    SUBJECT = 3
    """All tokens issued for a subject before the entry."""
    CLIENT = 4
    """All tokens issued to a client before the entry."""
    KEY = 5
    """All tokens signed with a key, by its `kid`."""
    EVERYTHING = 6
    """All tokens issued before the entry."""


class RevocationReason(IntEnum):
    """The reason of a revocation, numbered as in `token_service.proto`."""

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
    """The time after which every token that the entry revokes has expired."""
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    token_expire_time: int | None = None
    """`exp` of the token whose id is revoked; None if it is unknown."""


class Cursor(msgspec.Struct, frozen=True, gc=False):
    """A place in the log: all entries up to `sequence` of the log named `epoch`.

    A cursor has the same meaning on every node.
    """

    epoch: str
    sequence: int

    def __str__(self) -> str:
        return f"{self.epoch}:{self.sequence}"

    @classmethod
    def parse(cls, text: str) -> Cursor:
        """Return the cursor in `text`. Raises `ValueError`."""
        match = _CURSOR.fullmatch(text)
        if match is None:
            raise ValueError("the text is not a cursor")
        return cls(match[1], int(match[2]))
