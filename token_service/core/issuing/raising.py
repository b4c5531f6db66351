"""Step-up (RFC 9470): a new authentication of the subject raises the session that it has already.

Invariants at any load, number of nodes and point of a crash:
- a grant raises its session once, together with its audit event, or not at all;
- the session gets the new context only in the place of the one that the decision was made for, so that of two raises, or
  of a raise and UpdateSession, none overwrites what the other decided;
- no token is returned for a session that was revoked before the statement that raises it;
- the tokens are signed before that statement: a failed call leaves the grant usable, for as long as signing fails.

The refresh token of the session stays as it is. Of the claims about the session only `rev` can be older than the
statement; see `refresher` for why this is right.
"""

from __future__ import annotations

from typing import Final, NoReturn
from uuid import UUID

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.proved_keys import NO_KEYS, ProvedKeys
from token_service.core.access.used_ids import UsedIds
from token_service.core.clients.client import AUTHORIZATION_CODE
from token_service.core.events.audit import Audit
from token_service.core.events.event import NO_ORIGIN, Action, AuditEvent, Origin, Target
from token_service.core.issuing.commands import GrantUsedError, IssuedTokens
from token_service.core.issuing.issuer import access_token_ttl, token_type
from token_service.core.issuing.minter import Grant, MintedToken, Minter
from token_service.core.issuing.terms import Terms
from token_service.core.keys.keyring import Keyring
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Operation
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import RAISES, Raise, SessionStore
from token_service.errors import GrantInvalidError, OverloadedError
from token_service.tokens.claims import AuthContext, Confirmation

_MAX_ATTEMPTS: Final = 8
"""Attempts of a call when other calls change the session between its read and its write."""


class RaiseCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A raise of a session, decided when its grant was made."""

    session_id: UUID
    client_id: str
    subject: str
    scopes: tuple[str, ...]
    audience: tuple[str, ...]
    """The audience of the access token."""
    before: AuthContext | None
    """The context of the session for which the raise was decided."""
    auth_context: AuthContext
    grant_id: str
    expire_time: float
    """The expiry of the grant."""
    nonce: str = ""
    with_id_token: bool = False
    client_context: Origin = NO_ORIGIN
    keys: ProvedKeys = NO_KEYS
    """The keys that the client proves. They must include the one of a bound session."""
    confirmation: Confirmation = Confirmation()
    """The key of the access token, if the session is bound to none."""


class SessionRaiser:
    """Raises sessions."""

    def __init__(
        self,
        sessions: SessionStore,
        used_ids: UsedIds,
        minter: Minter,
        keyring: Keyring,
        terms: Terms,
        audit: Audit,
    ) -> None:
        self._sessions = sessions
        self._used_ids = used_ids
        self._minter = minter
        self._keyring = keyring
        self._clients = terms.clients
        self._rates = terms.rates
        self._audit = audit

    async def grant(self, caller: Caller, command: RaiseCommand, now: float) -> IssuedTokens:
        """Raise a session and issue an access token and, if asked for, an ID token of it. No refresh token.

        Raises `GrantUsedError` for a repeated grant, `GrantInvalidError` if the session has ended or was changed since
        the decision, `RateLimitedError`, `ClientDisabledError`, `InvalidRequestError`, `PolicyViolationError`,
        `OverloadedError`, `SigningUnavailableError`, `StoreUnavailableError`, `BindingRequiredError` and `WrongKeyError`.
        """
        now = round(now, 6)  # as the stores keep it
        policy = self._clients.policies.of(command.client_id, command.audience)
        if policy.rates or caller.rights.rates:
            await self._rates.take(
                caller,
                Operation.ISSUE,
                rates=policy.rates,
                client_id=command.client_id,
                subject=command.subject,
                address=command.client_context.ip_address,
            )
        await self._keyring.ready()
        self._clients.require(command.client_id, command.scopes, command.audience)
        for _ in range(_MAX_ATTEMPTS):
            session = await self._sessions.get(command.session_id)
            problem = _problem(session, command, now)
            if session is None or problem:
                await self._refuse(command, problem, now)
            command.keys.require(session.confirmation, "the session")
            confirmation = session.confirmation or command.confirmation
            self._clients.require_binding(command.client_id, policy, confirmation)
            signed = await self._sign(command, session, policy, now)
            event = _event(caller, command)
            raised, is_first = await self._sessions.raise_context(
                Raise(
                    session_id=session.id,
                    client_id=command.client_id,
                    now=now,
                    expected=session.auth_context,
                    auth_context=command.auth_context,
                    grant_id=command.grant_id,
                    expire_time=command.expire_time,
                ),
                [event],
            )
            if not is_first:
                raise _used(command)
            if raised is not None:
                self._audit.record(event)
                return self._issued(caller, command, raised, signed)
        raise OverloadedError("the session kept changing", retry_after=0.1)

    async def _refuse(self, command: RaiseCommand, problem: str, now: float) -> NoReturn:
        """Use up the grant. A repeated one must be found out in whatever state its session is by now."""
        if not await self._used_ids.use(RAISES, command.grant_id, command.expire_time, now):
            raise _used(command)
        raise GrantInvalidError(f"code: {problem}; start the authorization again")

    async def _sign(
        self, command: RaiseCommand, session: Session, policy: Policy, now: float
    ) -> tuple[MintedToken, str]:
        """Sign the access token and the ID token of the session as it will be."""
        grant = Grant(
            subject=session.subject,
            client_id=session.client_id,
            audience=command.audience,
            scopes=command.scopes,
            session_id=str(session.id),
            revision=session.head,
            auth_context=command.auth_context,
            confirmation=session.confirmation or command.confirmation,
            custom_claims=session.custom_claims,
        )
        self._minter.require_fit(grant, with_id_token=command.with_id_token, nonce=command.nonce)
        access = await self._minter.access_token(
            grant, now, access_token_ttl(policy, session.access_token_ttl)
        )
        if not command.with_id_token:
            return access, ""
        id_token = await self._minter.id_token(
            grant, now, policy.id_token_ttl, nonce=command.nonce, access_token=access.token
        )
        return access, id_token.token

    def _issued(
        self, caller: Caller, command: RaiseCommand, session: Session, signed: tuple[MintedToken, str]
    ) -> IssuedTokens:
        access, id_token = signed
        session_id = str(session.id)
        self._audit.record(
            AuditEvent(
                action=Action.TOKEN_ISSUED,
                actor=caller.actor(),
                target=Target("token", access.token_id, session.subject, session_id, session.client_id),
                origin=command.client_context,
                fields={
                    "token_types": ("ACCESS", "ID") if id_token else ("ACCESS",),
                    "grant_type": AUTHORIZATION_CODE,
                },
            )
        )
        return IssuedTokens(
            access_token=access.token,
            token_type=token_type(session.confirmation or command.confirmation),
            access_token_expire_time=access.expire_time,
            session_expire_time=session.absolute_expire_time,
            id_token=id_token,
            session_id=session_id,
            token_id=access.token_id,
            scopes=command.scopes,
        )


def _problem(session: Session | None, command: RaiseCommand, now: float) -> str:
    """Return why the session can't be raised; empty: it can."""
    if session is None or session.state(now) is not SessionState.ACTIVE:
        return "the session that it raises has ended"
    if session.auth_context not in (command.before, command.auth_context):
        return "the session that it raises was authenticated again meanwhile"
    if not set(command.scopes).issubset(session.scopes):
        return "the session that it raises has lost a scope meanwhile"
    return ""


def _used(command: RaiseCommand) -> GrantUsedError:
    return GrantUsedError("it was used before", str(command.session_id))


def _event(caller: Caller, command: RaiseCommand) -> AuditEvent:
    return AuditEvent(
        action=Action.SESSION_UPDATED,
        actor=caller.actor(),
        target=Target("session_update", "", command.subject, str(command.session_id), command.client_id),
        origin=command.client_context,
        fields={"fields": ("auth_context",), "cause": "step_up", "acr": command.auth_context.acr},
    )
