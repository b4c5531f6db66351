"""UpdateSession: changes what the next refresh of a session puts into its tokens."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_client, admit_issue
from token_service.core.access.rates import Rates
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.issuing.issuer import check_auth_context
from token_service.core.issuing.minter import Grant, Minter
from token_service.core.limits import MAX_CLIENT_ID, Checks
from token_service.core.policies.custom_claims import check_custom_claims
from token_service.core.policies.rates import Operation
from token_service.core.policies.rights import May
from token_service.core.sessions.browsing import check_session_id, require_changeable
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import Amendment, SessionStore
from token_service.errors import (
    OverloadedError,
    ScopeExceededError,
    SessionNotActiveError,
    SessionNotFoundError,
)
from token_service.tokens.claims import AuthContext, TokenKind

_MAX_ATTEMPTS: Final = 8
"""Attempts of a call when other calls change the session between its read and its write."""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpdateSessionCommand:
    """A change of a session. A field that is not in `fields` stays as it is."""

    session_id: str
    client_id: str
    fields: frozenset[str]
    """Names out of `scopes`, `custom_claims` and `auth_context`."""
    scopes: tuple[str, ...] = ()
    """A part of the session's scopes."""
    custom_claims: dict[str, Any] | None = None
    """All custom claims of the session, not only the changed ones."""
    auth_context: AuthContext | None = None


class SessionUpdates:
    """Changes sessions. A caller needs the right to issue what the session will hold."""

    def __init__(
        self, sessions: SessionStore, minter: Minter, rates: Rates, audit: Audit, *, issuer: str
    ) -> None:
        self._sessions = sessions
        self._minter = minter
        self._rates = rates
        self._policies = rates.policies
        self._audit = audit
        self._issuer = issuer

    async def update(self, caller: Caller, command: UpdateSessionCommand, now: float) -> Session:
        """Change a live session; return it. Tokens that were issued before stay as they are.

        Raises `PermissionDeniedError`, `InvalidRequestError` (also for a personal access token), `RateLimitedError`,
        `SessionNotFoundError` (also for the session of another client), `SessionNotActiveError`, `ScopeExceededError`
        for a scope that the session does not have, `ReservedClaimError`, `CustomClaimNotAllowedError`, `CustomClaimsTooLargeError`, `StoreUnavailableError`.
        """
        admit(caller, UseCase.UPDATE_SESSION)
        checks = Checks()
        key = check_session_id(checks, command.session_id)
        checks.text("client_id", command.client_id, MAX_CLIENT_ID, required=True)
        checks.scopes("scopes", command.scopes)
        check_auth_context(checks, command.auth_context)
        if not command.fields:
            checks.add("update_mask", "is required: one or more of scopes, custom_claims, auth_context")
        checks.done()
        assert key is not None
        # Before the rate, which belongs to the client, and before the session, whose existence the answer would tell.
        admit_client(caller, UseCase.UPDATE_SESSION, command.client_id)
        policy = self._policies.of(command.client_id)
        if policy.rates or caller.rights.rates:
            await self._rates.take(
                caller, Operation.UPDATE_SESSION, rates=policy.rates, client_id=command.client_id
            )
        for _ in range(_MAX_ATTEMPTS):
            session = await self._sessions.get(key)
            if session is None or session.client_id != command.client_id:
                raise SessionNotFoundError
            require_changeable(session)
            if session.state(now) is not SessionState.ACTIVE:
                raise SessionNotActiveError
            amendment = self._amendment(caller, command, session, now)
            event = AuditEvent(
                action=Action.SESSION_UPDATED,
                actor=caller.actor(),
                target=Target("session_update", "", session.subject, str(session.id), session.client_id),
                fields={"fields": tuple(sorted(command.fields)), "scopes": amendment.scopes},
            )
            amended = await self._sessions.amend(amendment, [event])
            if amended is not None:
                self._audit.record(event)
                return amended
        raise OverloadedError("the session kept changing", retry_after=0.1)

    def _amendment(
        self, caller: Caller, command: UpdateSessionCommand, session: Session, now: float
    ) -> Amendment:
        """Check the session as it will be; return the change."""
        fields = command.fields
        scopes = command.scopes if "scopes" in fields else session.scopes
        claims = (command.custom_claims or {}) if "custom_claims" in fields else session.custom_claims
        context = command.auth_context if "auth_context" in fields else session.auth_context
        uses = {May(name) for name in fields.intersection(May)}
        admit_issue(
            caller,
            subject=session.subject,
            client_id=session.client_id,
            audience=session.audience,
            scopes=scopes,
            kinds=_kinds(session),
            uses=frozenset(uses),
            issuer=self._issuer,
        )
        extra = set(scopes) - set(session.scopes)
        if extra:
            raise ScopeExceededError(
                f"scopes: the session does not have {min(extra)!r}", metadata={"field": "scopes"}
            )
        if "custom_claims" in fields:
            policy = self._policies.of(session.client_id, session.audience)
            check_custom_claims(claims, policy.max_custom_claim_bytes, policy.allowed_custom_claims)
        grant = Grant(
            subject=session.subject,
            client_id=session.client_id,
            audience=session.audience,
            scopes=scopes,
            session_id=str(session.id),
            revision=session.revision,
            auth_context=context,
            confirmation=session.confirmation,
            custom_claims=claims,
        )
        self._minter.require_fit(grant, with_id_token=session.with_id_token, nonce="")
        return Amendment(
            session_id=session.id,
            now=now,
            expected_scopes=session.scopes,
            scopes=scopes,
            custom_claims=claims if "custom_claims" in fields else None,
            auth_context=context if "auth_context" in fields else None,
            with_auth_context="auth_context" in fields,
        )


def _kinds(session: Session) -> list[TokenKind]:
    """Return the kinds of token that the session can still produce."""
    kinds = [TokenKind.ACCESS]
    if session.refresh_hash is not None:
        kinds.append(TokenKind.REFRESH)
    if session.session_hash is not None:
        kinds.append(TokenKind.SESSION)
    if session.with_id_token:
        kinds.append(TokenKind.ID)
    return kinds
