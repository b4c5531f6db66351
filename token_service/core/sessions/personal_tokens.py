"""Personal access tokens as sessions: what every use of one checks and records."""

from __future__ import annotations

import hmac
from typing import Final

from token_service.core.sessions.session import Session
from token_service.core.sessions.store import SessionStore, Use
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import OpaqueToken

_USE_INTERVAL: Final = 60.0
"""Seconds between two recorded uses of a token, so that most uses write nothing."""


def holds_secret(session: Session, token: OpaqueToken) -> bool:
    """Tell, in constant time, whether a session is the personal access token that was presented."""
    return (
        token.kind is TokenKind.PERSONAL_ACCESS
        and session.personal_hash is not None
        and hmac.compare_digest(token.secret_hash, session.personal_hash)
    )


def last_use(session: Session) -> float | None:
    """Return the time of the last recorded use of a personal access token; None: it was never used."""
    return None if session.last_use_time == session.create_time else session.last_use_time


async def record_use(store: SessionStore, session: Session, now: float) -> Session | None:
    """Record a use of a live personal access token: the first one, and then at most one a minute.

    Returns the session; None if it ended since it was read. Raises `StoreUnavailableError`.
    """
    used = last_use(session)
    if used is not None and now - used < _USE_INTERVAL:
        return session
    return await store.use(Use(session_id=session.id, now=now, idle_expire_time=session.absolute_expire_time))
