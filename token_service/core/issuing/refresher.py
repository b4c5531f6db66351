"""RefreshToken: exchanges a refresh token for the next tokens of its session.

Invariants at any load, number of nodes and point of a crash:
- at most one live successor exists: one compare-and-set statement decides every race;
- a retry inside the grace period gets the same successor, as long as the successor is unused;
- an authentic token of an older generation, or one after its grace period, revokes its family, unless it is a race (`reuse`);
- a token that is not authentic, or that comes from the wrong client or device or without the key of its session, revokes
  nothing and is not used up;
- no token is returned for a session that was revoked before the statement that accepts the refresh token;
- if signing can fail, all tokens are signed before that statement. A failed call leaves the refresh token
  usable, for as long as signing fails.

Tokens signed first describe the session as read before the statement. Of their claims about the session only
`rev`, the place in the log, can differ afterward. They are returned only if the accepting statement finds the
session live, so no revocation in between matched it. A later revocation matches both values of `rev`, because
its sequence is above both.
"""

from __future__ import annotations

from typing import Final

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_client
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.issuing.acceptance import Acceptance
from token_service.core.issuing.commands import IssuedTokens, RefreshCommand
from token_service.core.issuing.issuer import access_token_ttl, token_type
from token_service.core.issuing.minter import Grant, MintedToken, Minter
from token_service.core.issuing.refresh_refusals import refusal_of
from token_service.core.issuing.reuse import ReuseAnswers
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
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.revocation.revoker import Revoker
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import SessionStore
from token_service.errors import (
    OverloadedError,
    RateLimitedError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ScopeExceededError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import (
    MAX_GENERATION,
    OpaqueToken,
    OpaqueTokenError,
)

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
        self._risk = terms.risk
        self._policies = terms.clients.policies
        self._acceptance = Acceptance(sessions, keyring)
        self._reuse = ReuseAnswers(sessions, revoker, audit)
        self._opaque_tokens = opaque_tokens
        self._audit = audit
        self._signing_may_fail = signing_may_fail

    async def refresh(self, caller: Caller, command: RefreshCommand, now: float) -> IssuedTokens:
        """Exchange the refresh token.

        Raises one of `PermissionDeniedError`, `RefreshTokenInvalidError`, `RefreshTokenExpiredError`,
        `SessionIdleError`, `SessionRevokedError`, `RefreshTokenReusedError`, `WrongClientError`,
        `WrongDeviceError`, `ScopeExceededError`, `TooManyRetriesError`, `InvalidRequestError`,
        `RateLimitedError`, `StoreUnavailableError`, `SigningUnavailableError`, `KeysStaleError`,
        `ClientDisabledError`, `ClientNotFoundError`, `PolicyViolationError`, `BindingRequiredError`,
        `WrongKeyError`, `ProofInvalidError`, `RefreshRaceError`, `RiskRefusedError`, `AuthenticationInsufficientError`.
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
            or policy.binding_required
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
            confirmation = before.confirmation or command.confirmation
            self._clients.require_binding(before.client_id, policy, confirmation)
            if self._signing_may_fail:
                signed = await self._sign(command, before, policy, now)
        await command.keys.record()
        session, current = await self._exchange(actor, command, presented, policy, now)
        if self._risk.is_on:
            await self._risk.count_refresh(session)
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
        if self._risk.is_on:
            return await self._exchange_judged(actor, command, presented, policy, now)
        for _ in range(_MAX_ATTEMPTS):
            accepted = await self._acceptance.exchange(command, presented, policy, None, now)
            if accepted is None and presented.generation < MAX_GENERATION:
                accepted = await self._acceptance.retry(command, presented, policy, None, now)
            if accepted is not None:
                return accepted
            session = await self._sessions.get(presented.session_id)
            await self._require_acceptable(actor, command, presented, session, policy, now)
        raise OverloadedError("the session kept changing", retry_after=0.1)

    async def _exchange_judged(
        self, actor: Actor, command: RefreshCommand, presented: OpaqueToken, policy: Policy, now: float
    ) -> tuple[Session, OpaqueToken]:
        """Accept the presented token like `_exchange`, if the rules about risk do not refuse it."""
        judged = self._risk.usual(command, presented, policy, now)
        if judged is not None:
            accepted = await self._acceptance.exchange(command, presented, policy, judged, now)
            if accepted is not None:
                return accepted
        for _ in range(_MAX_ATTEMPTS):
            details = await self._sessions.describe(presented.session_id)
            session = None if details is None else details.session
            session = await self._require_acceptable(actor, command, presented, session, policy, now)
            assert details is not None
            judged = await self._risk.examine(actor, command, presented, details, policy, now)
            accept = (
                self._acceptance.retry
                if presented.generation < session.generation
                else self._acceptance.exchange
            )
            accepted = await accept(command, presented, policy, judged, now)
            if accepted is not None:
                return accepted
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
        failure = refusal_of(command, presented, session, policy, now)
        if failure is not None and session is not None:
            if isinstance(failure, RefreshTokenReusedError):
                failure = await self._reuse.answer(actor, command, presented, session, policy, now)
            if self._risk.is_on:
                await self._risk.note_failure(session, failure)
        if failure is not None or session is None:
            raise failure or RefreshTokenInvalidError
        return session

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
            confirmation=session.confirmation or command.confirmation,
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
                fields={
                    "generation": session.generation,
                    "classification": self._policies.classification(session.client_id),
                },
            )
        )
        return IssuedTokens(
            access_token=access.token,
            token_type=token_type(session.confirmation or command.confirmation),
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
