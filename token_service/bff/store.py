"""The port of session stores. Every adapter passes `tests/contract/bff/test_session_store.py`.

A store sees no token and no user: session ids, subjects and provider sessions arrive as digests, and the content of a
session is sealed. Times are seconds since the epoch, given by the caller, so that all processes of an application need
clocks that agree to within a second or so.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol


@dataclass(frozen=True, slots=True)
class StoredSession:
    """One session as a store keeps it."""

    key: str
    """The digest of the session id."""
    subject: str
    """The digest of issuer, client and `sub`."""
    sid: str
    """The digest of issuer, client and `sid`; empty if the ID token had none."""
    payload: str = field(repr=False)
    """The sealed content."""
    expire_time: float
    idle_expire_time: float
    version: int = 1
    """Counts the replacements of the payload."""


@dataclass(frozen=True, slots=True)
class Logout:
    """A back-channel logout: of one provider session, or of all sessions of a subject."""

    token_id: str
    """The digest of issuer, client and `jti`."""
    expire_time: float
    """Until when the store remembers `token_id`."""
    subject: str = ""
    sid: str = ""
    """One of both may be empty. With both, only sessions that match both are meant."""

    def __post_init__(self) -> None:
        if not (self.subject or self.sid):
            raise ValueError("a logout names a subject or a sid")


class SessionStore(Protocol):
    """Where sessions live, shared by all processes of an application.

    Methods are atomic for one session and for one name, in this process and in others. A method that is cancelled has
    either happened or not. Failures of the backend, and calls that exceed their time, raise
    `StoreUnavailableError`; what the call was to do may have happened.
    """

    async def create(self, session: StoredSession, now: float, keep: int | None) -> None:
        """Add a session. With `keep`, delete the sessions of its subject but the `keep` that expire last.

        Concurrent calls for one subject may keep more, until the next call.
        """
        ...

    async def load(self, key: str, now: float) -> StoredSession | None:
        """Return a session; None if it does not exist or is expired at `now`."""
        ...

    async def touch(self, key: str, idle_expire_time: float) -> None:
        """Extend a session's idle time. Never shortens it, and never creates a session."""
        ...

    async def lease(self, key: str, holder: str, now: float, until: float) -> StoredSession | None:
        """Reserve the renewal of a session until `until`, and return the session as it is now.

        Return None if another holder's reservation has not ended at `now`, or if `load` would return None.
        """
        ...

    async def release(self, key: str, holder: str) -> None:
        """End the reservation of `holder`. Does nothing to another holder's."""
        ...

    async def replace(self, key: str, version: int, payload: str) -> bool:
        """Set the payload and count up the version, if the version is still `version`; return whether it was."""
        ...

    async def delete(self, key: str, version: int | None = None) -> bool:
        """Delete a session, if it has `version`; return whether it was deleted."""
        ...

    async def log_out(self, logout: Logout, now: float) -> int | None:
        """Delete the sessions that are meant and remember the token, both or neither; return how many were deleted.

        Return None, and delete nothing, if the token was used before.
        """
        ...

    async def use_once(self, name: str, expire_time: float, now: float) -> bool:
        """Remember `name` until `expire_time`; return False if it is remembered already."""
        ...
