"""Claims about the subject of an access token (OpenID Connect Core 1.0, section 5.3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.key_proofs import KeyProofs
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionStore
from token_service.core.validation.introspector import Introspector, TokenQuery
from token_service.errors import CallerUnauthenticatedError, InvalidReason, PermissionDeniedError
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.possession import Presented, Scheme

OPENID: Final = "openid"
CLAIMS_OF_SCOPE: Final[Mapping[str, tuple[str, ...]]] = {
    "profile": (
        "name",
        "family_name",
        "given_name",
        "middle_name",
        "nickname",
        "preferred_username",
        "profile",
        "picture",
        "website",
        "gender",
        "birthdate",
        "zoneinfo",
        "locale",
        "updated_at",
    ),
    "email": ("email", "email_verified"),
    "address": ("address",),
    "phone": ("phone_number", "phone_number_verified"),
}
"""The claims that a scope requests (OpenID Connect Core 1.0, section 5.4)."""


class UserInfo:
    """Returns the identity claims of a session to the holder of its access token.

    The audience of the token does not count: a client asks with the token for its API, too.
    """

    def __init__(
        self,
        introspector: Introspector,
        proofs: KeyProofs,
        sessions: SessionStore,
        subjects: PairwiseSubjects,
        clock: Clock,
    ) -> None:
        self._introspector = introspector
        self._proofs = proofs
        self._sessions = sessions
        self._subjects = subjects
        self._clock = clock

    async def verify(self, token: str, presented: Presented, scheme: Scheme) -> VerifiedClaims:
        """Return the claims of an access token that may be used here.

        Raises `CallerUnauthenticatedError` for a token that is invalid, revoked, bound to a key that the request does not
        prove, or of no session, `PermissionDeniedError` for one without the scope `openid`, `ReplicaStaleError`, and the
        errors of `KeyProofs.check`.
        """
        query = TokenQuery(
            token, kind=TokenKind.ACCESS, required_scopes=(OPENID,), caller_checks_binding=True
        )
        found = await self._introspector.validate(Caller.system(), query)
        if found.reason is InvalidReason.INSUFFICIENT_SCOPE:
            raise PermissionDeniedError("the access token lacks the scope openid", metadata={"scope": OPENID})
        claims = found.claims
        if not isinstance(claims, VerifiedClaims):
            reason = "another kind" if found.reason is None else found.reason.value
            raise CallerUnauthenticatedError(f"the access token is not valid: {reason}")
        self._proofs.check(claims, token, presented, scheme)
        if not claims.session_id:
            raise CallerUnauthenticatedError("the access token is of no session, so there is no user")
        return claims

    async def claims(self, token: VerifiedClaims) -> dict[str, Any]:
        """Return `sub`, as in the ID token of the client, and the claims of the session that the scopes request.

        Raises `CallerUnauthenticatedError` if the session has been revoked or is of another client, and the errors of
        `PairwiseSubjects.require`.
        """
        session = await self._session(token)
        if session is None or session.state(self._clock.now()) is SessionState.REVOKED:
            raise CallerUnauthenticatedError("the session of the access token has ended")
        if (session.client_id, session.subject) != (token.client_id, token.subject):
            raise CallerUnauthenticatedError(
                "the access token was exchanged, and is not of the client itself"
            )
        body = {"sub": self._subjects.sub(token.client_id, token.subject)}
        held = session.identity_claims
        for scope, names in CLAIMS_OF_SCOPE.items():
            if scope in token.scopes:
                body.update((name, held[name]) for name in names if held.get(name) is not None)
        return body

    async def _session(self, token: VerifiedClaims) -> Session | None:
        try:
            return await self._sessions.get(UUID(token.session_id))
        except ValueError:
            return None
