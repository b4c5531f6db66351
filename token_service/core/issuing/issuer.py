"""IssueToken: issues tokens for a subject through a client."""

from __future__ import annotations

import hashlib
from functools import cache
from uuid import UUID

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_as_client, admit_issue
from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.issuing.commands import ISSUABLE, GrantUsedError, IssueCommand, IssuedTokens
from token_service.core.issuing.minter import Grant, MintedToken, Minter
from token_service.core.issuing.terms import Terms
from token_service.core.keys.keyring import Keyring
from token_service.core.limits import (
    MAX_ACR,
    MAX_AMR,
    MAX_AMRS,
    MAX_AUDIENCE,
    MAX_AUDIENCES,
    MAX_CLIENT_ID,
    MAX_DEVICE_ID,
    MAX_IP_ADDRESS,
    MAX_NONCE,
    MAX_REQUEST_ID,
    MAX_SUBJECT,
    MAX_USER_AGENT,
    THUMBPRINT,
    Checks,
    is_thumbprint,
)
from token_service.core.policies.custom_claims import check_custom_claims
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Operation
from token_service.core.policies.rights import May
from token_service.core.revocation.replica import Replica
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionStore
from token_service.errors import RequestIdReusedError
from token_service.tokens.claims import (
    MAX_ACCESS_TOKEN_TTL,
    MAX_NUMERIC_DATE,
    AuthContext,
    Confirmation,
    TokenKind,
)
from token_service.tokens.opaque_token import SECRET_BYTES, MacKeys, OpaqueToken, derive_first_secret
from token_service.tokens.secret import Secret

_WITH_SESSION = frozenset({TokenKind.REFRESH, TokenKind.SESSION})
_REQUESTED = (
    "subject",
    "device_id",
    "scopes",
    "audience",
    "auth_context",
    "confirmation",
    "custom_claims",
    "access_token_ttl",
    "with_id_token",
)
"""Fields that a session keeps from the request that created it, besides its lifetime."""


class Issuer:
    """Issues tokens. A request without a session costs no database access."""

    def __init__(
        self,
        sessions: SessionStore,
        minter: Minter,
        keyring: Keyring,
        terms: Terms,
        replica: Replica,
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
        self._risk = terms.risk
        self._policies = terms.clients.policies
        self._replica = replica
        self._issuer = issuer
        self._entropy = entropy
        self._audit = audit

    async def issue(self, caller: Caller, command: IssueCommand, now: float) -> IssuedTokens:
        """Issue the tokens that the command names.

        A refresh or session token creates a session, whose row is durable before this returns. Raises
        `PermissionDeniedError`, `InvalidRequestError`, `RateLimitedError`, `ReservedClaimError`,
        `CustomClaimsTooLargeError`, `BindingRequiredError`, `RequestIdReusedError`, `ClientDisabledError`, `ClientNotFoundError`,
        `PolicyViolationError`, `SigningUnavailableError`, `StoreUnavailableError`, `RiskRefusedError`,
        `AuthenticationInsufficientError`.
        """
        admit(caller, UseCase.ISSUE_TOKEN)
        _check(command)
        await self._clients.resolve(command.client_id, caller.identity)
        policy, audience = self._terms(command)
        if not caller.rights.issue_anything:
            _require_within(caller, command, audience)
        return await self._issue(caller, command, policy, audience, policy.allowed_custom_claims, now)

    async def grant(self, caller: Caller, command: IssueCommand, now: float) -> IssuedTokens:
        """Issue the tokens of a grant, for which `admit_grant` has admitted the caller.

        Raises `GrantUsedError` for a command with `single_use` whose grant has opened a session before, and if its
        subject or client was revoked after the revision of the command.

        The grant, not the right `issue`, decides what the client may get. Its custom claims come from the configuration,
        so the policy's list of allowed claims does not apply. Raises the errors of `issue` except those of its rights.
        """
        _check(command)
        policy, audience = self._terms(command)
        return await self._issue(caller, command, policy, audience, (), now)

    def _terms(self, command: IssueCommand) -> tuple[Policy, tuple[str, ...]]:
        """Return the policy and the audience of a command."""
        policy = self._policies.of(command.client_id)
        audience = command.audience or policy.default_audience or (self._issuer,)
        if self._policies.depend_on_audience:
            policy = self._policies.of(command.client_id, audience)
        return policy, audience

    async def _issue(
        self,
        caller: Caller,
        command: IssueCommand,
        policy: Policy,
        audience: tuple[str, ...],
        allowed_custom_claims: tuple[str, ...],
        now: float,
    ) -> IssuedTokens:
        if (
            command.subject == command.client_id
            and self._issuer in audience
            and self._clients.is_registered(command.client_id)
        ):
            admit_as_client(caller, command.client_id)
        if policy.rates or caller.rights.rates:
            await self._count(caller, command, policy)
        if self._risk.is_on:
            await self._risk.admit_issue(
                caller.actor(),
                client_id=command.client_id,
                subject=command.subject,
                origin=command.client_context,
                now=now,
            )
        # No await between this and the read of the replica: a token that claims to know an entry of the log must not
        # be for a client that was disabled by it.
        self._clients.require(command.client_id, command.scopes, audience)
        self._clients.require_binding(command.client_id, policy, command.confirmation)
        check_custom_claims(command.custom_claims, policy.max_custom_claim_bytes, allowed_custom_claims)
        grant = Grant(
            subject=command.subject,
            client_id=command.client_id,
            audience=audience,
            scopes=command.scopes,
            session_id=command.session_id,
            revision=self._replica.applied if command.revision is None else command.revision,
            auth_context=command.auth_context,
            confirmation=command.confirmation,
            custom_claims=command.custom_claims,
        )
        with_id_token = TokenKind.ID in command.kinds
        self._minter.require_fit(grant, with_id_token=with_id_token, nonce=command.nonce)
        if with_id_token or TokenKind.ACCESS in command.kinds:
            # A missing key must fail the call before it creates a session that the client never learns of.
            await self._keyring.ready()
        session: Session | None = None
        refresh_token = session_token = ""
        if command.kinds & _WITH_SESSION or command.single_use is not None:
            session, refresh_token, session_token = await self._open_session(
                command, policy, grant.audience, now
            )
            grant = structs.replace(grant, session_id=str(session.id), revision=session.revision)
        ttl = access_token_ttl(policy, command.access_token_ttl)
        access: MintedToken | None = None
        if TokenKind.ACCESS in command.kinds:
            narrowed = structs.replace(grant, audience=command.access_token_audience or grant.audience)
            access = await self._minter.access_token(narrowed, now, ttl)
        id_token = ""
        if with_id_token:
            minted = await self._minter.id_token(
                grant,
                now,
                policy.id_token_ttl,
                nonce=command.nonce,
                access_token=access.token if access is not None else "",
            )
            id_token = minted.token
        token_id = access.token_id if access is not None else ""
        self._audit.record(
            AuditEvent(
                action=Action.TOKEN_ISSUED,
                actor=caller.actor(),
                target=Target("token", token_id, command.subject, grant.session_id, command.client_id),
                origin=command.client_context,
                fields={
                    "token_types": _names(command.kinds),
                    "classification": self._policies.classification(command.client_id),
                    **command.audit_fields,
                },
            )
        )
        return IssuedTokens(
            access_token=access.token if access is not None else "",
            token_type=token_type(command.confirmation) if access is not None else "",
            access_token_expire_time=access.expire_time if access is not None else None,
            refresh_token=refresh_token,
            refresh_token_expire_time=session.idle_expire_time
            if session is not None and refresh_token
            else None,
            session_expire_time=session.absolute_expire_time if session is not None else None,
            id_token=id_token,
            session_token=session_token,
            session_id=grant.session_id,
            token_id=token_id,
            scopes=command.scopes,
        )

    async def _count(self, caller: Caller, command: IssueCommand, policy: Policy) -> None:
        """Count the call against its rates. Raises `RateLimitedError`."""
        await self._rates.take(
            caller,
            Operation.ISSUE,
            *((Operation.OPEN_SESSION,) if command.kinds & _WITH_SESSION else ()),
            rates=policy.rates,
            client_id=command.client_id,
            subject=command.subject,
            address=command.client_context.ip_address,
        )

    async def _open_session(
        self, command: IssueCommand, policy: Policy, audience: tuple[str, ...], now: float
    ) -> tuple[Session, str, str]:
        """Create a session; return its row, its refresh token and its session token."""
        keys = self._keyring.mac_keys
        session_id = UUID(bytes=self._entropy(16), version=4)
        opaque = {
            kind: self._first_token(keys, keys.active, kind, session_id, command.request_id)
            for kind in command.kinds & _WITH_SESSION
        }
        absolute = now + min(policy.refresh_token_ttl, command.refresh_token_ttl or policy.refresh_token_ttl)
        wanted = Session(
            id=session_id,
            subject=command.subject,
            client_id=command.client_id,
            device_id=command.device_id,
            scopes=command.scopes,
            audience=audience,
            auth_context=command.auth_context,
            confirmation=command.confirmation,
            custom_claims=command.custom_claims,
            identity_claims=command.identity_claims,
            upstream=command.upstream,
            upstream_session=command.upstream_session,
            classification=self._policies.classification(command.client_id),
            access_token_ttl=None
            if command.access_token_ttl is None
            else int(min(command.access_token_ttl, MAX_ACCESS_TOKEN_TTL)),
            with_id_token=TokenKind.ID in command.kinds,
            refresh_hash=opaque[TokenKind.REFRESH].secret_hash if TokenKind.REFRESH in opaque else None,
            session_hash=opaque[TokenKind.SESSION].secret_hash if TokenKind.SESSION in opaque else None,
            key_version=keys.active,
            create_time=now,
            rotate_time=now,
            last_use_time=now,
            idle_expire_time=min(now + policy.idle_timeout, absolute),
            absolute_expire_time=absolute,
        )
        session, created = await self._sessions.create(wanted, _request_hash(command), command.client_context)
        if command.single_use is not None:
            if not created:
                raise GrantUsedError("it was used before", str(session.id))
            if session.floor > command.single_use.revision:
                raise _revoked(session)
        elif command.revision is not None and session.floor > command.revision:
            raise _revoked(session)
        elif not created:
            opaque = self._repeat(command, wanted, session, keys, now)
        texts = {kind: token.format(keys) for kind, token in opaque.items()}
        return session, texts.get(TokenKind.REFRESH, ""), texts.get(TokenKind.SESSION, "")

    def _repeat(
        self, command: IssueCommand, wanted: Session, session: Session, keys: MacKeys, now: float
    ) -> dict[TokenKind, OpaqueToken]:
        """Return the tokens of the session that an earlier call with this request_id created."""
        if not all(getattr(wanted, name) == getattr(session, name) for name in _REQUESTED):
            raise RequestIdReusedError
        if abs(_lifetime(wanted) - _lifetime(session)) > 0.001:  # stores keep microseconds
            raise RequestIdReusedError
        if session.generation > 0 or session.state(now) is not SessionState.ACTIVE:
            raise RequestIdReusedError("the session of this request_id is in use or has ended")
        opaque = {
            kind: self._first_token(keys, session.key_version, kind, session.id, command.request_id)
            for kind in command.kinds & _WITH_SESSION
        }
        hashes = {kind: token.secret_hash for kind, token in opaque.items()}
        if (
            hashes.get(TokenKind.REFRESH) != session.refresh_hash
            or hashes.get(TokenKind.SESSION) != session.session_hash
        ):
            raise RequestIdReusedError
        return opaque

    def _first_token(
        self, keys: MacKeys, version: int, kind: TokenKind, session_id: UUID, request_id: str
    ) -> OpaqueToken:
        if request_id:
            secret = derive_first_secret(keys, version, kind, session_id, request_id)
        else:
            secret = Secret(self._entropy(SECRET_BYTES))
        return OpaqueToken(kind, version, session_id, 0, secret)


def check_auth_context(checks: Checks, context: AuthContext | None) -> None:
    """Check the authentication context of a subject."""
    if context is None:
        return
    checks.text("auth_context.acr", context.acr, MAX_ACR)
    checks.texts("auth_context.amr", context.amr, MAX_AMRS, MAX_AMR)
    if context.auth_time is not None and not 0 <= context.auth_time <= MAX_NUMERIC_DATE:
        checks.add("auth_context.auth_time", "is not a time since 1970")


def _require_within(caller: Caller, command: IssueCommand, audience: tuple[str, ...]) -> None:
    uses = set()
    if command.auth_context is not None:
        uses.add(May.AUTH_CONTEXT)
    if command.custom_claims:
        uses.add(May.CUSTOM_CLAIMS)
    admit_issue(
        caller,
        subject=command.subject,
        client_id=command.client_id,
        audience=audience,
        scopes=command.scopes,
        kinds=command.kinds,
        uses=frozenset(uses),
    )


def access_token_ttl(policy: Policy, asked: float | None) -> int:
    """Return the lifetime of an access token in seconds: the requested one, limited by the policy."""
    return policy.access_token_ttl if asked is None else max(1, int(min(policy.access_token_ttl, asked)))


def _revoked(session: Session) -> GrantUsedError:
    return GrantUsedError(
        "its subject or client was revoked since it was made", str(session.id), is_revoked=True
    )


def _request_hash(command: IssueCommand) -> bytes | None:
    if command.single_use is not None:
        return command.single_use.digest
    return hashlib.sha256(command.request_id.encode()).digest() if command.request_id else None


def _lifetime(session: Session) -> float:
    return session.absolute_expire_time - session.create_time


@cache  # at most fifteen combinations
def _names(kinds: frozenset[TokenKind]) -> tuple[str, ...]:
    return tuple(sorted(kind.name for kind in kinds))


def token_type(confirmation: Confirmation) -> str:
    """Return the type of an access token: how a client presents it."""
    return "DPoP" if confirmation.jkt else "Bearer"


def _check(command: IssueCommand) -> None:
    checks = Checks()
    checks.text("subject", command.subject, MAX_SUBJECT, required=True)
    checks.text("client_id", command.client_id, MAX_CLIENT_ID, required=True)
    checks.texts("audience", command.audience, MAX_AUDIENCES, MAX_AUDIENCE)
    checks.scopes("scopes", command.scopes)
    checks.text("device_id", command.device_id, MAX_DEVICE_ID)
    checks.text("nonce", command.nonce, MAX_NONCE)
    checks.text("request_id", command.request_id, MAX_REQUEST_ID)
    checks.text("client_context.ip_address", command.client_context.ip_address, MAX_IP_ADDRESS)
    checks.text("client_context.user_agent", command.client_context.user_agent, MAX_USER_AGENT)
    if not command.kinds:
        checks.add("token_types", "is empty")
    elif not command.kinds <= ISSUABLE:
        checks.add("token_types", "has a kind that IssueToken does not issue")
    for field, span in (
        ("access_token_ttl", command.access_token_ttl),
        ("refresh_token_ttl", command.refresh_token_ttl),
    ):
        if span is not None and not span >= 1:  # `not >=` also catches NaN
            checks.add(field, "is shorter than a second")
    check_auth_context(checks, command.auth_context)
    confirmation = command.confirmation
    if confirmation.jkt and confirmation.x5t_s256:
        checks.add("confirmation", "has both jkt and x5t_s256")
    for field, value in (
        ("confirmation.jkt", confirmation.jkt),
        ("confirmation.x5t_s256", confirmation.x5t_s256),
    ):
        if value and not is_thumbprint(value):
            checks.add(field, f"is not a SHA-256 thumbprint in base64url ({THUMBPRINT} characters)")
    checks.done()
