"""Personal access tokens as subject tokens of a token exchange (RFC 8693)."""

from __future__ import annotations

from typing import Final

from token_service.clock import Clock
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import Client
from token_service.core.grants.presented import PresentedToken, not_accepted
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.sessions.personal_tokens import holds_secret, record_use
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionStore
from token_service.errors import (
    ClientDisabledError,
    ClientNotFoundError,
    InvalidReason,
    SubjectTokenInvalidError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import OpaqueTokenError

PERSONAL_ACCESS_TOKEN: Final = "urn:token-service:token-type:personal_access_token"
"""The `subject_token_type` of a personal access token."""


class PersonalAccessReader:
    """Judges personal access tokens that clients present, and records their uses."""

    def __init__(
        self, sessions: SessionStore, opaque_tokens: OpaqueTokens, clients: ClientAdmission, clock: Clock
    ) -> None:
        self._sessions = sessions
        self._opaque_tokens = opaque_tokens
        self._clients = clients
        self._clock = clock

    async def read(self, token: str, _client: Client) -> PresentedToken:
        """Return what a token that comes of a personal access token may have. See `ReadToken`.

        The new token has its id as `sid`, so a revocation of the personal access token ends it. Raises
        `SubjectTokenInvalidError`, `PolicyViolationError` if its client is registered for nothing of it any more,
        `KeysStaleError` if this node can't decide, and `StoreUnavailableError`.
        """
        session = await self._judge(token, self._clock.now())
        scopes, audience = self._clients.registered(session.client_id, session.scopes, session.audience)
        return PresentedToken(
            kind=TokenKind.PERSONAL_ACCESS,
            token_id="",
            subject=session.subject,
            client_id=session.client_id,
            audience=audience,
            scopes=frozenset(scopes),
            session_id=str(session.id),
            expire_time=session.absolute_expire_time,
            # From the snapshot of the row, so it includes no revocation that the verdict lacks.
            revision=session.head,
        )

    async def _judge(self, text: str, now: float) -> Session:
        """Return the live session that a personal access token is, and record its use."""
        try:
            token = await self._opaque_tokens.read(text)
        except OpaqueTokenError as error:
            reason = InvalidReason.BAD_SIGNATURE if error.forged else InvalidReason.MALFORMED
            raise _refused(reason) from None
        if token.kind is not TokenKind.PERSONAL_ACCESS:
            raise _refused(InvalidReason.WRONG_TYPE)
        session = await self._sessions.get(token.session_id)
        if session is None:
            raise _refused(InvalidReason.UNKNOWN_SESSION)
        if not holds_secret(session, token):
            raise _refused(InvalidReason.BAD_SIGNATURE)
        state = session.state(now)
        if state is not SessionState.ACTIVE:
            raise _refused(InvalidReason.REVOKED if state is SessionState.REVOKED else InvalidReason.EXPIRED)
        try:
            self._clients.require(session.client_id)
        except (ClientDisabledError, ClientNotFoundError):
            raise not_accepted("subject_token", "CLIENT", "its client gets no tokens") from None
        used = await record_use(self._sessions, session, now)
        if used is None:
            raise _refused(InvalidReason.REVOKED)
        return used


def _refused(reason: InvalidReason) -> SubjectTokenInvalidError:
    return not_accepted("subject_token", reason.value, f"the personal access token is {reason.value}")
