"""`id_token_hint` (OpenID Connect Core 1.0, section 3.1.2.1), and the step-up of a session by it (RFC 9470).

A client that needs a stronger or a later authentication of its user sends the last ID token with `acr_values` or
`max_age`. The session of the ID token is then raised, unless that could weaken it or give it to another subject.
"""

from __future__ import annotations

from uuid import UUID

from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.grants.codes import StepUp
from token_service.core.login.requests import Hint
from token_service.core.login.upstream import Authenticated, Login
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionStore
from token_service.core.validation.id_token_hints import IdTokenHints
from token_service.errors import InvalidTokenError, LoginRequiredError
from token_service.tokens.claims import AuthContext


class LoginHints:
    """Reads the ID tokens that clients send with authorization requests."""

    def __init__(self, id_tokens: IdTokenHints, subjects: PairwiseSubjects) -> None:
        self._id_tokens = id_tokens
        self._subjects = subjects

    async def read(self, token: str, client_id: str) -> Hint | None:
        """Return what an ID token of the client says; None for every other text. Raises `StoreUnavailableError`."""
        claims = await self._id_tokens.read(token)
        if claims is None or claims.audience != (client_id,):
            return None
        try:
            return Hint(subject=self._subjects.subject_of(claims), session_id=claims.session_id)
        except InvalidTokenError:
            return None


class StepUps:
    """Decides whether a new authentication raises a session or opens one."""

    def __init__(self, sessions: SessionStore) -> None:
        self._sessions = sessions

    async def decide(self, login: Login, user: Authenticated, now: float) -> StepUp | None:
        """Return the session to raise; None: a new session.

        Raises `LoginRequiredError` if another subject than that of the hint has logged in, `StoreUnavailableError`.
        """
        request = login.request
        hint = request.hint
        if hint is None:
            return None
        if hint.subject != user.subject:
            raise LoginRequiredError("another user than that of id_token_hint has logged in")
        if not hint.session_id or user.auth_context is None:
            return None
        if request.max_age is None and not request.acr_values:
            return None  # an ordinary login, for which the client expects a refresh token
        session = await self._sessions.get(UUID(hint.session_id))
        if session is None or not _may_raise(session, login, user, now):
            return None
        if is_weaker(user.auth_context, session.auth_context, request.acr_values):
            return None
        return StepUp(session_id=session.id, before=session.auth_context)


def _may_raise(session: Session, login: Login, user: Authenticated, now: float) -> bool:
    """Tell whether a session is that of the request: live, and with all that is requested."""
    request = login.request
    return (
        session.state(now) is SessionState.ACTIVE
        and session.client_id == request.client_id
        and session.subject == user.subject
        and not session.device_id  # the browser proves no device
        # The end of the session at the upstream must end this one, too.
        and (session.upstream, session.upstream_session) == (login.upstream, user.upstream_session)
        and set(request.scopes).issubset(session.scopes)
        and set(request.audience).issubset(session.audience)
    )


def is_weaker(new: AuthContext, old: AuthContext | None, acr_values: tuple[str, ...]) -> bool:
    """Tell whether a context could be weaker than another one. Only the client knows an order of classes: `acr_values`."""
    if old is None:
        return False
    if old.auth_time is not None and (new.auth_time is None or new.auth_time < old.auth_time):
        return True
    if new.acr and new.acr in acr_values:
        return old.acr in acr_values[: acr_values.index(new.acr)]
    if new.acr and new.acr == old.acr:
        return False
    return bool(old.acr) or not set(old.amr).issubset(new.amr)
