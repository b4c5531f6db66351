"""Observations: one use of a session, and its history.

They are created for each call, so they are msgspec structs.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec


class Use(StrEnum):
    """The kind of a use."""

    ISSUE = "issue"
    """A request that opens a session or issues tokens without one."""
    REFRESH = "refresh"
    """RefreshToken, the refresh token grant of the token endpoint, and the renewal of a browser session."""
    EXTEND = "extend"
    """ExtendSession."""


class Seen(msgspec.Struct, frozen=True, array_like=True):
    """An origin of earlier uses of a session. Empty texts: the caller did not report them."""

    time: float
    """The last use from this origin, in seconds since the Unix epoch."""
    address: str = ""
    user_agent: str = ""
    device_id: str = ""


class History(msgspec.Struct, frozen=True):
    """The earlier uses of a session, and the counts of its subject."""

    origins: tuple[Seen, ...] = ()
    """The origins of the session, the last one first. Empty: the session is new, or no use reported an origin."""
    renewed: float | None = None
    """The time of the last renewal of the session; None: it is new."""
    quick_renewals: int = 0
    """Consecutive renewals before this use that followed their predecessor too soon."""
    issuances: int = 0
    """How often the rate of issuance of this subject and client was exceeded lately."""
    refusals: int = 0
    """How often a use of this session or subject was refused lately."""
    reuses: int = 0
    """How often a refresh token of this subject was reused lately."""


class Observation(msgspec.Struct, frozen=True, kw_only=True):
    """A use of a session, with its history."""

    use: Use
    time: float
    """Seconds since the Unix epoch."""
    session_id: str = ""
    subject: str = ""
    client_id: str = ""
    classification: str = ""
    address: str = ""
    user_agent: str = ""
    device_id: str = ""
    access_token_ttl: float = 0.0
    """The lifetime of the access tokens of the session in seconds; 0: unknown."""
    history: History = History()
