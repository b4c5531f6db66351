"""GetSession, ListSessions, ExtendSession."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_client
from token_service.core.access.rates import Rates
from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.limits import (
    DEFAULT_PAGE,
    MAX_CLIENT_ID,
    MAX_IP_ADDRESS,
    MAX_SUBJECT,
    MAX_USER_AGENT,
    Checks,
)
from token_service.core.page_tokens import format_page_token, parse_page_token
from token_service.core.policies.rates import Operation
from token_service.core.sessions.details import SessionDetails
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionFilter, SessionPosition, SessionStore, Use
from token_service.errors import InvalidRequestError, SessionNotActiveError, SessionNotFoundError

MAX_SESSIONS_LISTED: Final = 10_000
"""Sessions that one page of live ones examines."""


@dataclass(frozen=True, slots=True)
class SessionPage:
    """Sessions, newest first. `next_page_token` is empty on the last page."""

    sessions: Sequence[SessionDetails]
    next_page_token: str


class Sessions:
    """Reads and extends sessions. Each method raises `PermissionDeniedError`."""

    def __init__(
        self,
        store: SessionStore,
        rates: Rates,
        admit_extension: Callable[[Caller, UUID, Origin, float], Awaitable[None]],
    ) -> None:
        """`admit_extension` judges the risk of an extension of a session from an origin at a time, and raises."""
        self._store = store
        self._admit_extension = admit_extension
        self._rates = rates
        self._policies = rates.policies

    async def get(self, caller: Caller, session_id: str) -> SessionDetails:
        """Return one session, live or not. Raises `InvalidRequestError` and `SessionNotFoundError`."""
        admit(caller, UseCase.GET_SESSION)
        details = await self._store.describe(parse_session_id(session_id))
        if details is None:
            raise SessionNotFoundError
        return details

    async def list(
        self,
        caller: Caller,
        by: SessionFilter,
        value: str,
        *,
        live_at: float | None,
        page_size: int,
        page_token: str,
    ) -> SessionPage:
        """List a page of sessions; `live_at`: only sessions live at that time. Raises `InvalidRequestError`.

        Examines at most `MAX_SESSIONS_LISTED` sessions, so a page may have fewer live ones although more follow: a
        client whose 1,000,000 sessions were just revoked has none on a hundred pages.
        """
        admit(caller, UseCase.LIST_SESSIONS)
        checks = Checks()
        checks.text(by.value, value, MAX_SUBJECT, required=True)
        after = checks.page(page_size, page_token, parse_position)
        checks.done()
        size = page_size or DEFAULT_PAGE
        until = None
        if live_at is not None:
            until = await self._store.position(by, value, after=after, count=MAX_SESSIONS_LISTED)
        rows = await self._store.list(by, value, live_at=live_at, limit=size + 1, after=after, until=until)
        page = rows[:size]
        if len(rows) > size:
            return SessionPage(page, format_position(page[-1].session))
        token = "" if until is None else format_page_token(until.create_time, until.session_id.bytes)
        return SessionPage(page, token)

    async def extend(
        self,
        caller: Caller,
        session_id: str,
        client_id: str,
        idle_timeout: float | None,
        now: float,
        origin: Origin = NO_ORIGIN,
    ) -> Session:
        """Move the idle expiry to `idle_timeout` seconds from now, never to an earlier time.

        None, or more than the policy allows, means the policy's.

        Raises `InvalidRequestError` (also for a personal access token), `RateLimitedError`, `SessionNotFoundError`
        (also for the session of another client), `SessionNotActiveError`, and `RiskRefusedError`,
        `AuthenticationInsufficientError` or `SessionRevokedError` by the rules about risk.
        """
        admit(caller, UseCase.EXTEND_SESSION)
        checks = Checks()
        key = check_session_id(checks, session_id)
        checks.text("client_id", client_id, MAX_CLIENT_ID, required=True)
        if idle_timeout is not None and not idle_timeout >= 1:  # `not >=` also catches NaN
            checks.add("idle_timeout", "is shorter than a second")
        checks.text("client_context.ip_address", origin.ip_address, MAX_IP_ADDRESS)
        checks.text("client_context.user_agent", origin.user_agent, MAX_USER_AGENT)
        checks.done()
        assert key is not None
        admit_client(caller, UseCase.EXTEND_SESSION, client_id)
        policy = self._policies.of(client_id)
        if policy.rates or caller.rights.rates:
            await self._rates.take(caller, Operation.UPDATE_SESSION, rates=policy.rates, client_id=client_id)
        session = await self._store.get(key)
        if session is None or session.client_id != client_id:
            raise SessionNotFoundError
        require_changeable(session)
        if session.state(now) is SessionState.ACTIVE:
            await self._admit_extension(caller, key, origin, now)
        longest = float(self._policies.of(session.client_id, session.audience).idle_timeout)
        span = longest if idle_timeout is None else min(idle_timeout, longest)
        later = max(session.idle_expire_time, now + span)
        used = await self._store.use(Use(session_id=key, now=now, idle_expire_time=later))
        if used is None:
            raise SessionNotActiveError
        return used


def parse_session_id(text: str) -> UUID:
    """Return the id in a request. Raises `InvalidRequestError`."""
    checks = Checks()
    key = check_session_id(checks, text)
    checks.done()
    assert key is not None
    return key


def check_session_id(checks: Checks, text: str, field: str = "session_id") -> UUID | None:
    """Return the id in a field of a request; None and a violation if it is not a UUID."""
    try:
        if len(text) == 36:  # the canonical form only: UUID() also accepts braces and URNs
            return UUID(text)
    except ValueError:
        pass
    checks.add(field, "is not a UUID")
    return None


def require_changeable(session: Session) -> None:
    """Raise `InvalidRequestError` for a personal access token: its lifetime and its content never change."""
    if session.personal_hash is not None:
        raise InvalidRequestError.of(
            "session_id", "is a personal access token, which never changes; create another one"
        )


def format_position(session: Session) -> str:
    """Return the page token of the page after a session."""
    return format_page_token(session.create_time, session.id.bytes)


def parse_position(text: str) -> SessionPosition:
    """Return the position in a page token. Raises `ValueError`."""
    micros, row_id = parse_page_token(text)
    return SessionPosition(micros / 1_000_000, UUID(bytes=row_id))
