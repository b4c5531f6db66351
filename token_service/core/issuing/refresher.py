"""RefreshToken: exchanges a refresh token for the next tokens of its session.

Invariants at any load, number of nodes and point of a crash:
- at most one live successor exists: one compare-and-set statement decides every race;
- a retry inside the grace period gets the same successor, as long as the successor is unused;
- an authentic token of an older generation, or one after its grace period, revokes its family;
- a token that is not authentic, or that comes from the wrong client or device, revokes nothing;
- no token is returned for a session that was revoked before the statement that accepts the refresh token;
- if signing can fail, all tokens are signed before that statement. A failed call leaves the refresh token
  usable, for as long as signing fails.

Tokens signed first describe the session as read before the statement. Of their claims about the session only
`rev`, the place in the log, can differ afterward. They are returned only if the accepting statement finds the
session live, so no revocation in between matched it. A later revocation matches both values of `rev`, because
its sequence is above both.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_client
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.issuing.commands import IssuedTokens, RefreshCommand
from token_service.core.issuing.issuer import access_token_ttl, token_type
from token_service.core.issuing.minter import Grant, MintedToken, Minter
from token_service.core.issuing.terms import Terms
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.limits import (
    MAX_AUDIENCE,
    MAX_AUDIENCES,
    MAX_CLIENT_ID,
    MAX_DEVICE_ID,
    MAX_IP_ADDRESS,
    MAX_USER_AGENT,
    Checks,
)
from token_service.core.policies.policy import Policy, ReuseResponse
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import Retry, Rotation, SessionStore, Use
from token_service.errors import (
    OverloadedError,
    RateLimitedError,
    RefreshTokenExpiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ScopeExceededError,
    ServiceError,
    SessionIdleError,
    SessionRevokedError,
    TooManyRetriesError,
    WrongClientError,
    WrongDeviceError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import (
    MAX_GENERATION,
    OpaqueToken,
    OpaqueTokenError,
)
from token_service.tokens.revocation import RevocationReason, RevocationTarget

_MAX_ATTEMPTS: Final = 8
"""Attempts of a call when other calls change the row between two of its statements."""


class Refresher:
    """Rotates refresh tokens and issues the access and ID tokens of the response."""

    def __init__(
        self,
        sessions: SessionStore,
        minter: Minter,
        keyring: Keyring,
        terms: Terms,
        revoker: Revoker,
        opaque_tokens: OpaqueTokens,
        audit: Audit,
        *,
        signing_may_fail: bool = False,
    ) -> None:
        """`signing_may_fail`: private keys may be, now or later, in a module that can be unavailable.

        Signing before the exchange costs one more read.
        """
        self._sessions = sessions
        self._minter = minter
        self._keyring = keyring
        self._clients = terms.clients
        self._rates = terms.rates
        self._policies = terms.clients.policies
        self._revoker = revoker
        self._opaque_tokens = opaque_tokens
        self._audit = audit
        self._signing_may_fail = signing_may_fail

    async def refresh(self, caller: Caller, command: RefreshCommand, now: float) -> IssuedTokens:
        """Exchange the refresh token.

        Raises one of `PermissionDeniedError`, `RefreshTokenInvalidError`, `RefreshTokenExpiredError`,
        `SessionIdleError`, `SessionRevokedError`, `RefreshTokenReusedError`, `WrongClientError`,
        `WrongDeviceError`, `ScopeExceededError`, `TooManyRetriesError`, `InvalidRequestError`,
        `RateLimitedError`, `StoreUnavailableError`, `SigningUnavailableError`, `KeysStaleError`,
        `ClientDisabledError`, `ClientNotFoundError`, `PolicyViolationError`.
        """
        admit(caller, UseCase.REFRESH_TOKEN)
        _check(command)
        admit_client(caller, UseCase.REFRESH_TOKEN, command.client_id)
        await self._clients.resolve(command.client_id, caller.identity)
        # Stores keep whole microseconds. Comparisons here must agree with comparisons in their statements.
        now = round(now, 6)
        policy = self._policies.of(command.client_id)
        limited: RateLimitedError | None = None
        if policy.rates or caller.rights.rates:
            limited = await self._count(caller, command, policy)
        # A missing key must fail the call before the token is used up.
        await self._keyring.ready()
        try:
            presented = await self._opaque_tokens.read(command.refresh_token)
        except OpaqueTokenError:
            raise limited or RefreshTokenInvalidError from None
        if presented.kind is not TokenKind.REFRESH or presented.generation >= MAX_GENERATION:
            raise limited or RefreshTokenInvalidError
        self._clients.require(command.client_id)
        actor = caller.actor()
        if limited is not None or (policy.rates and (Operation.REFRESH, Bucket.SUBJECT) in policy.rates):
            await self._require_admitted(actor, command, presented, policy, limited, now)
        signed: tuple[MintedToken, str] | None = None
        if (
            command.scopes
            or command.audience
            or self._signing_may_fail
            or self._policies.depend_on_audience
            or self._clients.may_have_narrowed(command.client_id, now - policy.refresh_token_ttl)
        ):
            # Check the token first: a reused token revokes its family even if the request is wrong otherwise. The
            # audience of a session never changes. Its scopes change only by UpdateSession: a call that reads them
            # before such a change began before the change ended, so either order of the two is right.
            before = await self._sessions.get(presented.session_id)
            before = await self._require_acceptable(actor, command, presented, before, policy, now)
            _narrow(command, before)
            command = self._within_registration(command, before)
            policy = self._policies.of(before.client_id, before.audience)
            if self._signing_may_fail:
                signed = await self._sign(command, before, policy, now)
        session, current = await self._exchange(actor, command, presented, policy, now)
        access, id_token = signed or await self._sign(command, session, policy, now)
        return self._issued(actor, command, session, current, access, id_token)

    def _within_registration(self, command: RefreshCommand, session: Session) -> RefreshCommand:
        """Return the command for what its client is still registered for.

        Raises `PolicyViolationError` if nothing is left, and for a value that the command itself names.
        """
        self._clients.require(command.client_id, command.scopes, command.audience)
        scopes, audience = self._clients.registered(command.client_id, session.scopes, session.audience)
        return structs.replace(
            command, scopes=command.scopes or scopes, audience=command.audience or audience
        )

    async def _count(
        self, caller: Caller, command: RefreshCommand, policy: Policy
    ) -> RateLimitedError | None:
        """Count the call against its rates; return the refusal, if it is refused."""
        try:
            await self._rates.take(
                caller,
                Operation.REFRESH,
                rates=policy.rates,
                client_id=command.client_id,
                address=command.client_context.ip_address,
            )
        except RateLimitedError as error:
            return error
        return None

    async def _require_admitted(
        self,
        actor: Actor,
        command: RefreshCommand,
        presented: OpaqueToken,
        policy: Policy,
        limited: RateLimitedError | None,
        now: float,
    ) -> None:
        """Count the call by its subject, and raise `RateLimitedError` if it is refused, here or before (`limited`).

        A retry within the grace period is admitted: told to come back later, it would come back as a reused token,
        and its session would be revoked. `max_retries` limits these.
        """
        session = await self._sessions.get(presented.session_id)
        session = await self._require_acceptable(actor, command, presented, session, policy, now)
        if presented.generation < session.generation:
            return
        if limited is not None:
            raise limited
        await self._rates.take_of_subject(
            Operation.REFRESH, policy.rates, client_id=session.client_id, subject=session.subject
        )

    async def _exchange(
        self, actor: Actor, command: RefreshCommand, presented: OpaqueToken, policy: Policy, now: float
    ) -> tuple[Session, OpaqueToken]:
        """Accept the presented token; return the session's row and its current refresh token."""
        for _ in range(_MAX_ATTEMPTS):
            if policy.rotate:
                accepted = await self._rotate(command, presented, policy, now)
            else:
                accepted = await self._keep(command, presented, policy, now)
            if accepted is None and presented.generation < MAX_GENERATION:
                accepted = await self._retry(command, presented, policy, now)
            if accepted is not None:
                return accepted
            session = await self._sessions.get(presented.session_id)
            await self._require_acceptable(actor, command, presented, session, policy, now)
        raise OverloadedError("the session kept changing", retry_after=0.1)

    async def _require_acceptable(
        self,
        actor: Actor,
        command: RefreshCommand,
        presented: OpaqueToken,
        session: Session | None,
        policy: Policy,
        now: float,
    ) -> Session:
        """Return the row if the token is acceptable; otherwise raise why not. A reused token revokes its family."""
        failure = self._diagnose(command, presented, session, policy, now)
        if isinstance(failure, RefreshTokenReusedError) and session is not None:
            await self._punish(actor, command, presented, session, policy, now)
        if failure is not None or session is None:
            raise failure or RefreshTokenInvalidError
        return session

    async def _rotate(
        self, command: RefreshCommand, presented: OpaqueToken, policy: Policy, now: float
    ) -> tuple[Session, OpaqueToken] | None:
        keys = self._keyring.mac_keys
        successor = presented.successor(keys, keys.active)
        session = await self._sessions.rotate(
            Rotation(
                session_id=presented.session_id,
                client_id=command.client_id,
                device_id=command.device_id,
                generation=presented.generation,
                current_hash=presented.secret_hash,
                next_hash=successor.secret_hash,
                key_version=successor.key_version,
                now=now,
                idle_expire_time=now + policy.idle_timeout,
                origin=command.client_context,
            )
        )
        return None if session is None else (session, successor)

    async def _keep(
        self, command: RefreshCommand, presented: OpaqueToken, policy: Policy, now: float
    ) -> tuple[Session, OpaqueToken] | None:
        """Accept the current token without replacing it."""
        session = await self._sessions.get(presented.session_id)
        if session is None or session.generation != presented.generation:
            return None
        if session.client_id != command.client_id or session.device_id not in ("", command.device_id):
            return None
        used = await self._sessions.use(
            Use(
                session_id=presented.session_id,
                now=now,
                idle_expire_time=now + policy.idle_timeout,
                refresh_hash=presented.secret_hash,
                origin=command.client_context,
            )
        )
        return None if used is None else (used, presented)

    async def _retry(
        self, command: RefreshCommand, presented: OpaqueToken, policy: Policy, now: float
    ) -> tuple[Session, OpaqueToken] | None:
        """Return the same successor again, after a race or a lost response."""
        session = await self._sessions.retry(
            Retry(
                session_id=presented.session_id,
                client_id=command.client_id,
                device_id=command.device_id,
                generation=presented.generation,
                previous_hash=presented.secret_hash,
                rotated_after=now - policy.grace_period,
                max_retries=policy.max_retries,
                now=now,
            )
        )
        if session is None:
            return None
        successor = presented.successor(self._keyring.mac_keys, session.key_version)
        if successor.secret_hash != session.refresh_hash:
            raise RefreshTokenInvalidError  # the row was not written by a rotation of this token
        return session, successor

    def _diagnose(
        self,
        command: RefreshCommand,
        presented: OpaqueToken,
        session: Session | None,
        policy: Policy,
        now: float,
    ) -> ServiceError | None:
        """Return why the current row does not accept the token; None: it does, unless the row changes."""
        if session is None:
            return RefreshTokenInvalidError()
        if session.client_id != command.client_id:
            return WrongClientError()
        if session.device_id not in ("", command.device_id):
            return WrongDeviceError()
        state = session.state(now)
        if state is SessionState.REVOKED:
            return SessionRevokedError()
        if state is SessionState.EXPIRED:
            return RefreshTokenExpiredError()
        if state is SessionState.IDLE:
            return SessionIdleError()
        if presented.generation > session.generation:
            return RefreshTokenInvalidError()  # issued in a history that a restore of the database removed
        if presented.generation == session.generation:
            return None if presented.secret_hash == session.refresh_hash else RefreshTokenInvalidError()
        in_grace = session.rotate_time > now - policy.grace_period
        # A client that was told to retry later must not count as a thief when it does.
        refused = 0 < policy.max_retries <= session.retries
        if presented.generation + 1 == session.generation and (in_grace or refused):
            if presented.secret_hash != session.previous_hash:
                return RefreshTokenInvalidError()
            if session.retries >= policy.max_retries:
                return TooManyRetriesError(retry_after=max(1.0, policy.grace_period))
            return None
        return RefreshTokenReusedError()

    async def _punish(
        self,
        actor: Actor,
        command: RefreshCommand,
        presented: OpaqueToken,
        session: Session,
        policy: Policy,
        now: float,
    ) -> None:
        """Revoke the family, append its log entry and write the audit events in one transaction."""
        event = AuditEvent(
            action=Action.REFRESH_TOKEN_REUSED,
            actor=actor,
            target=Target("refresh_token", "", session.subject, str(session.id), session.client_id),
            origin=command.client_context,
            fields={
                "presented_generation": presented.generation,
                "current_generation": session.generation,
                "response": policy.reuse_response.value,
            },
        )
        reason = RevocationReason.REFRESH_TOKEN_REUSED
        drafts = [
            replace(draft_of(RevocationTarget.SESSION, str(session.id), now, reason=reason), event=event)
        ]
        if policy.reuse_response is ReuseResponse.SUBJECT:
            draft = draft_of(RevocationTarget.SUBJECT, session.subject, now, reason=reason)
            drafts.append(replace(draft, event=event_of(draft, actor, command.client_context)))
        await self._revoker.append(drafts)
        self._audit.record(event)

    async def _sign(
        self, command: RefreshCommand, session: Session, policy: Policy, now: float
    ) -> tuple[MintedToken, str]:
        """Sign the access token, and the ID token if the session has one."""
        grant = Grant(
            subject=session.subject,
            client_id=session.client_id,
            audience=command.audience or session.audience,
            scopes=command.scopes or session.scopes,
            session_id=str(session.id),
            revision=session.head,
            auth_context=session.auth_context,
            confirmation=session.confirmation,
            custom_claims=session.custom_claims,
        )
        ttl = access_token_ttl(policy, session.access_token_ttl)
        access = await self._minter.access_token(grant, now, ttl)
        id_token = ""
        if session.with_id_token:
            minted = await self._minter.id_token(
                grant, now, policy.id_token_ttl, nonce="", access_token=access.token
            )
            id_token = minted.token
        return access, id_token

    def _issued(
        self,
        actor: Actor,
        command: RefreshCommand,
        session: Session,
        current: OpaqueToken,
        access: MintedToken,
        id_token: str,
    ) -> IssuedTokens:
        session_id = str(session.id)
        self._audit.record(
            AuditEvent(
                action=Action.TOKEN_REFRESHED,
                actor=actor,
                target=Target("token", access.token_id, session.subject, session_id, session.client_id),
                origin=command.client_context,
                fields={"generation": session.generation},
            )
        )
        return IssuedTokens(
            access_token=access.token,
            token_type=token_type(session.confirmation),
            access_token_expire_time=access.expire_time,
            refresh_token=current.format(self._keyring.mac_keys),
            refresh_token_expire_time=session.idle_expire_time,
            session_expire_time=session.absolute_expire_time,
            id_token=id_token,
            session_id=session_id,
            token_id=access.token_id,
            scopes=command.scopes or session.scopes,
        )


def _narrow(command: RefreshCommand, session: Session) -> None:
    for field, asked, has in (
        ("scopes", command.scopes, session.scopes),
        ("audience", command.audience, session.audience),
    ):
        extra = set(asked) - set(has)
        if extra:
            raise ScopeExceededError(
                f"{field}: the session does not have {min(extra)!r}", metadata={"field": field}
            )


def _check(command: RefreshCommand) -> None:
    checks = Checks()
    if not command.refresh_token:
        checks.add("refresh_token", "is required")
    checks.text("client_id", command.client_id, MAX_CLIENT_ID, required=True)
    checks.text("device_id", command.device_id, MAX_DEVICE_ID)
    checks.scopes("scopes", command.scopes)
    checks.texts("audience", command.audience, MAX_AUDIENCES, MAX_AUDIENCE)
    checks.text("client_context.ip_address", command.client_context.ip_address, MAX_IP_ADDRESS)
    checks.text("client_context.user_agent", command.client_context.user_agent, MAX_USER_AGENT)
    checks.done()
