"""CreatePersonalAccessToken, ListPersonalAccessTokens and RevokePersonalAccessToken.

A personal access token is a session without other tokens, so its revocation, alone or through its subject, its client
or everything, needs no rules of its own. Its id is the `sid` of the access tokens made from it.
"""

from __future__ import annotations

import hashlib
from typing import Final
from uuid import UUID

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_as_client, admit_issue, admit_token_list
from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.events.event import NO_ORIGIN, Action, AuditEvent, Origin, Target
from token_service.core.issuing.minter import Grant, Minter
from token_service.core.issuing.terms import Terms
from token_service.core.keys.keyring import Keyring
from token_service.core.limits import (
    DEFAULT_PAGE,
    MAX_AUDIENCE,
    MAX_AUDIENCES,
    MAX_CLIENT_ID,
    MAX_IP_ADDRESS,
    MAX_REQUEST_ID,
    MAX_SUBJECT,
    MAX_TOKEN_NAME,
    MAX_USER_AGENT,
    Checks,
)
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Operation
from token_service.core.policies.rights import Permission
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.browsing import (
    SessionPage,
    check_session_id,
    format_position,
    parse_position,
)
from token_service.core.sessions.personal_tokens import holds_secret
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionFilter, SessionStore
from token_service.errors import (
    BindingRequiredError,
    PolicyViolationError,
    RequestIdReusedError,
    SessionNotFoundError,
)
from token_service.tokens.claims import Confirmation, TokenKind
from token_service.tokens.opaque_token import SECRET_BYTES, MacKeys, OpaqueToken, derive_first_secret
from token_service.tokens.revocation import Cursor, RevocationReason, RevocationTarget
from token_service.tokens.secret import Secret

_KIND: Final = TokenKind.PERSONAL_ACCESS
_REQUESTED: Final = ("subject", "scopes", "audience", "name")
"""Fields that a token keeps from the request that created it, besides its lifetime."""


class CreateCommand(msgspec.Struct, frozen=True, kw_only=True):
    """A request to create a personal access token."""

    subject: str
    client_id: str
    name: str
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    ttl: float
    """Seconds."""
    request_id: str = ""
    client_context: Origin = NO_ORIGIN


class CreatedToken(msgspec.Struct, frozen=True):
    """A created personal access token: its text, which is stored nowhere, and its row."""

    token: str
    session: Session

    def __repr__(self) -> str:
        return f"<CreatedToken id={self.session.id}>"


class PersonalAccessTokens:
    """Creates, lists and revokes personal access tokens. Each method raises `PermissionDeniedError`."""

    def __init__(
        self,
        sessions: SessionStore,
        minter: Minter,
        keyring: Keyring,
        terms: Terms,
        revoker: Revoker,
        *,
        issuer: str,
        entropy: Entropy,
        audit: Audit,
    ) -> None:
        self._sessions = sessions
        self._minter = minter
        self._keyring = keyring
        self._clients = terms.clients
        self._rates = terms.rates
        self._policies = terms.clients.policies
        self._revoker = revoker
        self._issuer = issuer
        self._entropy = entropy
        self._audit = audit

    async def create(self, caller: Caller, command: CreateCommand, now: float) -> CreatedToken:
        """Create a token, whose row is durable before this returns.

        Raises `InvalidRequestError`, `RateLimitedError`, `BindingRequiredError`, `RequestIdReusedError`,
        `ClientDisabledError`, `ClientNotFoundError`, `ClientDocumentUnavailableError`, `PolicyViolationError` and
        `StoreUnavailableError`.
        """
        admit(caller, UseCase.CREATE_PERSONAL_ACCESS_TOKEN)
        _check(command)
        admit_issue(
            caller,
            subject=command.subject,
            client_id=command.client_id,
            audience=command.audience,
            scopes=command.scopes,
            kinds=(_KIND,),
        )
        await self._clients.resolve(command.client_id, caller.identity)
        policy = self._policies.of(command.client_id, command.audience)
        if (
            command.subject == command.client_id
            and self._issuer in command.audience
            and self._clients.is_registered(command.client_id)
        ):
            admit_as_client(caller, command.client_id)
        if policy.rates or caller.rights.rates:
            await self._rates.take(
                caller,
                Operation.ISSUE,
                Operation.OPEN_SESSION,
                rates=policy.rates,
                client_id=command.client_id,
                subject=command.subject,
                address=command.client_context.ip_address,
            )
        self._clients.require(command.client_id, command.scopes, command.audience)
        _require_allowed(command, policy)
        self._minter.require_fit(_grant(command), with_id_token=False, nonce="")
        created = await self._create(command, now)
        session = created.session
        self._audit.record(
            AuditEvent(
                action=Action.TOKEN_ISSUED,
                actor=caller.actor(),
                target=Target("token", "", session.subject, str(session.id), session.client_id),
                origin=command.client_context,
                fields={"token_types": (_KIND.name.lower(),)},
            )
        )
        return created

    async def list(
        self,
        caller: Caller,
        subject: str,
        *,
        client_id: str = "",
        live_at: float | None = None,
        page_size: int = 0,
        page_token: str = "",
    ) -> SessionPage:
        """List a page of the tokens of a subject, newest first.

        `client_id`: only tokens of this client; empty: of any. `live_at`: only tokens live at that time. Raises
        `InvalidRequestError` and `StoreUnavailableError`.
        """
        admit_token_list(caller, client_id)
        checks = Checks()
        checks.text("subject", subject, MAX_SUBJECT, required=True)
        checks.text("client_id", client_id, MAX_CLIENT_ID)
        after = checks.page(page_size, page_token, parse_position)
        checks.done()
        size = page_size or DEFAULT_PAGE
        rows = await self._sessions.list(
            SessionFilter.SUBJECT,
            subject,
            live_at=live_at,
            limit=size + 1,
            after=after,
            personal=True,
            client_id=client_id,
        )
        page = rows[:size]
        return SessionPage(page, format_position(page[-1].session) if len(rows) > size else "")

    async def revoke(
        self, caller: Caller, token_id: str, *, reason: RevocationReason, comment: str, now: float
    ) -> Cursor:
        """Revoke a token by its id; return a place in the log that includes the revocation.

        Raises `InvalidRequestError`, `RateLimitedError`, `StoreUnavailableError`, and `SessionNotFoundError` for an id
        of no personal access token, or of one of a client that the caller may not revoke for.
        """
        session = await self.find(caller, token_id)
        command = RevokeCommand(
            target=RevocationTarget.SESSION, value=str(session.id), reason=reason, comment=comment
        )
        return (await self._revoker.revoke(caller, command, now)).cursor

    async def find(self, caller: Caller, token_id: str) -> Session:
        """Return a token that the caller may revoke, live or not. Raises the errors of `revoke`, except its rates."""
        admit(caller, UseCase.REVOKE_PERSONAL_ACCESS_TOKEN)
        checks = Checks()
        key = check_session_id(checks, token_id, "personal_access_token_id")
        checks.done()
        assert key is not None
        session = await self._sessions.get(key)
        if (
            session is None
            or session.personal_hash is None
            or not caller.rights.cover_client(Permission.REVOKE, session.client_id)
        ):
            raise SessionNotFoundError("there is no such personal access token")
        return session

    async def _create(self, command: CreateCommand, now: float) -> CreatedToken:
        keys = self._keyring.mac_keys
        token = self._token(keys, keys.active, UUID(bytes=self._entropy(16), version=4), command.request_id)
        expire_time = now + command.ttl
        wanted = Session(
            id=token.session_id,
            subject=command.subject,
            client_id=command.client_id,
            scopes=command.scopes,
            audience=command.audience,
            key_version=token.key_version,
            personal_hash=token.secret_hash,
            name=command.name,
            classification=self._policies.classification(command.client_id),
            create_time=now,
            rotate_time=now,
            last_use_time=now,
            idle_expire_time=expire_time,
            absolute_expire_time=expire_time,
        )
        request_hash = hashlib.sha256(command.request_id.encode()).digest() if command.request_id else None
        session, created = await self._sessions.create(wanted, request_hash, command.client_context)
        if not created:
            token = self._repeat(command, wanted, session, keys, now)
        return CreatedToken(token.format(keys), session)

    def _repeat(
        self, command: CreateCommand, wanted: Session, session: Session, keys: MacKeys, now: float
    ) -> OpaqueToken:
        """Return the token that an earlier call with this request_id created."""
        lifetime = session.absolute_expire_time - session.create_time
        if (
            session.personal_hash is None
            or not all(getattr(wanted, name) == getattr(session, name) for name in _REQUESTED)
            or abs(lifetime - command.ttl) > 0.001  # stores keep microseconds
        ):
            raise RequestIdReusedError
        if session.state(now) is not SessionState.ACTIVE:
            raise RequestIdReusedError("the personal access token of this request_id has ended")
        token = self._token(keys, session.key_version, session.id, command.request_id)
        if not holds_secret(session, token):
            raise RequestIdReusedError
        return token

    def _token(self, keys: MacKeys, version: int, token_id: UUID, request_id: str) -> OpaqueToken:
        if request_id:
            secret = derive_first_secret(keys, version, _KIND, token_id, request_id)
        else:
            secret = Secret(self._entropy(SECRET_BYTES))
        return OpaqueToken(_KIND, version, token_id, 0, secret)


def _require_allowed(command: CreateCommand, policy: Policy) -> None:
    """Raise an error unless the policy allows a personal access token with this lifetime."""
    longest = policy.personal_access_token_ttl
    if longest == 0:
        raise PolicyViolationError(
            "the policy of the client allows no personal access tokens", metadata={"field": "ttl"}
        )
    if policy.binding_required:
        raise BindingRequiredError(
            "the policy of the client requires bound tokens; a personal access token can't be bound"
        )
    if command.ttl > longest:
        raise PolicyViolationError(
            f"ttl: the policy of the client allows at most {longest} seconds", metadata={"field": "ttl"}
        )


def _grant(command: CreateCommand) -> Grant:
    """Return the largest access token that can be made from the token."""
    return Grant(
        subject=command.subject,
        client_id=command.client_id,
        audience=command.audience,
        scopes=command.scopes,
        session_id="",
        revision=0,
        auth_context=None,
        confirmation=Confirmation(),
        custom_claims={},
    )


def _check(command: CreateCommand) -> None:
    checks = Checks()
    checks.text("subject", command.subject, MAX_SUBJECT, required=True)
    checks.text("client_id", command.client_id, MAX_CLIENT_ID, required=True)
    checks.text("name", command.name, MAX_TOKEN_NAME, required=True)
    for field, values in (("audience", command.audience), ("scopes", command.scopes)):
        if not values:
            checks.add(field, "is required")
    checks.texts("audience", command.audience, MAX_AUDIENCES, MAX_AUDIENCE)
    checks.scopes("scopes", command.scopes)
    if not command.ttl >= 1:  # `not >=` also catches NaN
        checks.add("ttl", "is required, and at least a second")
    checks.text("request_id", command.request_id, MAX_REQUEST_ID)
    checks.text("client_context.ip_address", command.client_context.ip_address, MAX_IP_ADDRESS)
    checks.text("client_context.user_agent", command.client_context.user_agent, MAX_USER_AGENT)
    checks.done()
