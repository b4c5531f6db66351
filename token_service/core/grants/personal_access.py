"""Personal access tokens as proofs at the token endpoint: a client exchanges one for an access token (RFC 8693)."""

from __future__ import annotations

from typing import Final

from token_service.core.clients.admission import ClientAdmission
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.sessions.personal_tokens import holds_secret, record_use
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionStore
from token_service.errors import ClientDisabledError, ClientNotFoundError, GrantInvalidError
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import OpaqueTokenError

PERSONAL_ACCESS_TOKEN: Final = "urn:token-service:token-type:personal_access_token"
"""The `subject_token_type` of a personal access token."""


class PersonalAccessProofs:
    """Checks personal access tokens that a grant presents."""

    def __init__(self, sessions: SessionStore, opaque_tokens: OpaqueTokens, clients: ClientAdmission) -> None:
        self._sessions = sessions
        self._opaque_tokens = opaque_tokens
        self._clients = clients

    async def check(self, text: str, now: float) -> Session:
        """Return the live session that a personal access token is, and record its use.

        An access token made from it has the session's subject and client, a part of its scopes and audience, its id as
        `sid` and its `head` as `rev`, and ends no later than its `absolute_expire_time`. So the revocation of the
        personal access token, of its subject or of its client revokes the access token too.

        Raises `GrantInvalidError` for any other text and for a token that ended; `KeysStaleError` if this node can't
        decide; `StoreUnavailableError`.
        """
        try:
            token = await self._opaque_tokens.read(text)
        except OpaqueTokenError:
            raise _invalid("is not one of this service") from None
        if token.kind is not TokenKind.PERSONAL_ACCESS:
            raise _invalid("is a token of another kind")
        session = await self._sessions.get(token.session_id)
        if session is None or not holds_secret(session, token):
            raise _invalid("is unknown; it may have been deleted after its end")
        state = session.state(now)
        if state is not SessionState.ACTIVE:
            raise _invalid("is revoked" if state is SessionState.REVOKED else "has expired")
        try:
            self._clients.require(session.client_id)
        except (ClientDisabledError, ClientNotFoundError):
            raise _invalid("belongs to a client that gets no tokens") from None
        used = await record_use(self._sessions, session, now)
        if used is None:
            raise _invalid("is revoked")
        return used


def _invalid(why: str) -> GrantInvalidError:
    return GrantInvalidError(f"the personal access token {why}")
