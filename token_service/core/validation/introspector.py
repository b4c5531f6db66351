"""ValidateToken and BatchValidateTokens: whether a token is valid now, and why not.

A JWT is judged in eight steps, and the first that fails gives the reason: signature, times, issuer, audience,
structure, revocation, scopes, and the proof of the key that it is bound to. (Issuer and structure can't change, so they
are checked when a signature is seen for the first time.)
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import msgspec

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit, admit_introspection
from token_service.core.access.rates import Rates
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.limits import MAX_BATCH
from token_service.core.policies.rates import Operation
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.core.sessions.personal_tokens import holds_secret, record_use
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionStore, Use
from token_service.errors import InvalidReason, InvalidRequestError, InvalidTokenError
from token_service.tokens.claims import Confirmation, TokenKind, VerifiedClaims
from token_service.tokens.opaque_token import OpaqueToken, OpaqueTokenError, looks_opaque
from token_service.tokens.possession import NOTHING_PRESENTED, PossessionChecker, Presented
from token_service.tokens.revocation import Cursor
from token_service.tokens.revocation_set import RevocationSet
from token_service.tokens.verified_cache import MAX_AGE, CacheEntry, VerifiedCache
from token_service.tokens.verifier import (
    MAX_TOKEN_BYTES,
    Verifier,
    check_audience,
    check_scopes,
    check_times,
)

_CACHE_CAPACITY: Final = 20_000
_USE_SHARE: Final = 20
"""A use of a session token moves the idle expiry only after 1/20 of the idle timeout, so most uses write nothing."""
_PAUSE_EVERY: Final = 32
"""Tokens of a batch between two pauses that let other calls run."""


class TokenQuery(
    msgspec.Struct, frozen=True
):  # each validation makes one, in a fifth of the time of a dataclass
    """A token and the conditions that it must meet."""

    token: str
    audience: str = ""
    """Empty: any."""
    required_scopes: Sequence[str] = ()
    kind: TokenKind | None = None
    """None: any except TRANSACTION, which only a caller that knows the trust domain may accept."""
    strong: bool = False
    """Whether the response must include every revocation acknowledged before the call, on any node."""
    client_id: str = ""
    """The client that a token must be issued to or, unless it is a refresh token, be meant for. Empty: any."""
    presented: Presented = NOTHING_PRESENTED
    """What the request that presented the token proves. A DPoP proof counts once in this process."""
    caller_checks_binding: bool = False
    """Whether the caller itself checks that the sender of the token has the key that it is bound to."""

    def __repr__(self) -> str:
        return f"<TokenQuery audience={self.audience!r} strong={self.strong}>"

    @property
    def is_repeatable(self) -> bool:
        """Whether the same query may be judged again: it has no DPoP proof that would be used up."""
        return self.caller_checks_binding or self.presented.dpop_proof is None


@dataclass(frozen=True, slots=True)
class OpaqueClaims:
    """The kind and the session of an active opaque token."""

    kind: TokenKind
    session: Session


class Introspection(msgspec.Struct, frozen=True):
    """The result for one token. An inactive token has a `reason`, and no `claims` and `entry`."""

    cursor: Cursor
    reason: InvalidReason | None = None
    claims: VerifiedClaims | OpaqueClaims | None = None
    entry: CacheEntry | None = None
    """The cached claims of an active JWT. An edge that caches responses compares it by identity."""


class Introspector:
    """Judges tokens of every kind. Each method that takes a caller raises `PermissionDeniedError`."""

    def __init__(
        self,
        verifier: Verifier,
        replica: Replica,
        tailer: Tailer,
        sessions: SessionStore,
        opaque_tokens: OpaqueTokens,
        subjects: PairwiseSubjects,
        rates: Rates,
        clock: Clock,
    ) -> None:
        self._verifier = verifier
        self._replica = replica
        self._tailer = tailer
        self._sessions = sessions
        self._opaque_tokens = opaque_tokens
        self._look_for_keys = opaque_tokens.look_for_keys
        self._subjects = subjects
        self._rates = rates
        self._policies = rates.policies
        self._clock = clock
        self._possession = PossessionChecker()
        self._cache = VerifiedCache(_CACHE_CAPACITY)
        self._generation = verifier.generation

    async def validate(self, caller: Caller, query: TokenQuery) -> Introspection:
        """Judge a token of any kind.

        Raises `StoreUnavailableError`, `ReplicaStaleError`, `KeysStaleError`, `RateLimitedError` for an opaque token: only
        these read the database, and `OverloadedError` while this process remembers too many DPoP proofs.
        """
        admit(caller, UseCase.VALIDATE_TOKEN)
        if query.strong:
            await self._tailer.catch_up()
        return await self._judge(caller, query, self._clock.now())

    async def introspect(self, caller: Caller, token: str) -> Introspection:
        """Judge a token for the introspection endpoint (RFC 7662), like `validate`, but without the proof of its key.

        The response tells the key (RFC 7662, section 2.2; RFC 9449, section 6.2), and the caller checks the proof.

        A client without the permission to validate learns only about tokens that it has a part in (RFC 7662,
        section 4). Raises `CallerUnauthenticatedError` and the errors of `validate`.
        """
        query = TokenQuery(token, client_id=admit_introspection(caller), caller_checks_binding=True)
        return await self._judge(caller, query, self._clock.now())

    async def validate_batch(
        self, caller: Caller, count: int, queries: Iterable[TokenQuery]
    ) -> AsyncIterator[Introspection]:
        """Judge `count` tokens in their order. If one query is strong, all of them are.

        `queries` is read only if the count is allowed. All queries share one time of arrival, so many unknown
        keys cost one look for newer keys. Raises `InvalidRequestError` and the errors of `validate`.
        """
        admit(caller, UseCase.BATCH_VALIDATE_TOKENS)
        if not 1 <= count <= MAX_BATCH:
            raise InvalidRequestError.of("requests", f"has not 1 to {MAX_BATCH} items")
        asked = self._clock.monotonic()
        batch = list(queries)
        if any(query.strong for query in batch):
            await self._tailer.catch_up()
        for number, query in enumerate(batch):
            if number % _PAUSE_EVERY == _PAUSE_EVERY - 1:
                await asyncio.sleep(0)
            yield await self._judge(caller, query, self._clock.now(), asked)

    def validate_jwt(self, caller: Caller, query: TokenQuery, now: float) -> Introspection:
        """Judge a JWT by the current replica, without I/O. Raises `ReplicaStaleError` and `OverloadedError`."""
        admit(caller, UseCase.VALIDATE_TOKEN)
        return self._judge_jwt(query, now)

    @property
    def generation(self) -> int:
        """A number that changes with the keys: a result of another generation must be judged again."""
        return self._verifier.generation

    def still_active(self, caller: Caller, entry: CacheEntry, generation: int, now: float) -> bool:
        """Tell whether a query that found a JWT active, at a generation, has the same result now.

        False: judge the token again. The other conditions of a query can't change their result. Raises
        `ReplicaStaleError`.
        """
        admit(caller, UseCase.VALIDATE_TOKEN)
        self._tailer.require_fresh()
        return (
            entry.clean_version == self._replica.revocations.version
            and entry.valid_from <= now < entry.valid_until
            and generation == self._verifier.generation
        )

    async def _judge(
        self, caller: Caller, query: TokenQuery, now: float, asked: float | None = None
    ) -> Introspection:
        """Judge a token of any kind. `asked`: the monotonic time of arrival of its batch."""
        try:
            if len(query.token) > MAX_TOKEN_BYTES:
                raise InvalidTokenError(InvalidReason.TOO_LARGE)
            if looks_opaque(query.token):
                return await self._validate_opaque(caller, query, now, asked)
        except InvalidTokenError as error:
            return Introspection(self._replica.cursor, error.reason)
        answer = self._judge_jwt(query, now)
        if answer.reason is InvalidReason.UNKNOWN_KEY and await self._look_for_keys(asked):
            return self._judge_jwt(query, now)
        return answer

    def _judge_jwt(self, query: TokenQuery, now: float) -> Introspection:
        self._tailer.require_fresh()
        replica = self._replica
        try:
            entry = self._entry(query.token, now)
            claims = entry.claims
            check_times(claims, now)
            if query.audience:
                check_audience(claims, query.audience)
            if claims.kind is not query.kind and (
                query.kind is not None or claims.kind is TokenKind.TRANSACTION
            ):
                raise InvalidTokenError(InvalidReason.WRONG_TYPE)
            if query.client_id and query.client_id not in (claims.client_id, *claims.audience):
                raise InvalidTokenError(InvalidReason.WRONG_AUDIENCE)
            revocations = replica.revocations
            if entry.clean_version != revocations.version:
                if revocations.find(claims) is not None or self._subject_is_revoked(claims, revocations):
                    raise InvalidTokenError(InvalidReason.REVOKED)
                entry.clean_version = revocations.version
            if query.required_scopes:
                check_scopes(claims, query.required_scopes)
            if not query.caller_checks_binding:
                confirmation = claims.confirmation
                if confirmation:
                    self._check_possession(confirmation, query, now)
        except InvalidTokenError as error:
            return Introspection(replica.cursor, error.reason)
        return Introspection(replica.cursor, None, claims, entry)

    def _check_possession(self, confirmation: Confirmation, query: TokenQuery, now: float) -> None:
        """Raise `InvalidTokenError` unless the query proves the key of a bound token. Last: it uses up the proof."""
        elapsed = self._clock.monotonic()
        self._possession.check(
            confirmation, query.token, query.presented, scheme=None, now=now, elapsed=elapsed
        )

    def _subject_is_revoked(self, claims: VerifiedClaims, revocations: RevocationSet) -> bool:
        """Tell whether the subject behind a pairwise `sub` is revoked, which `RevocationSet.find` can't see."""
        if claims.kind is not TokenKind.ID:
            return False
        subject = self._subjects.subject_of(claims)
        return subject != claims.subject and revocations.revokes_subject(subject, claims)

    def _entry(self, token: str, now: float) -> CacheEntry:
        generation = self._verifier.generation
        if generation != self._generation:
            self._cache.clear()
            self._generation = generation
        entry = self._cache.get(token)
        if entry is None or entry.valid_until <= now:
            claims = self._verifier.verify(token)
            valid_from = max(claims.not_before, claims.issue_time)
            entry = CacheEntry(claims, valid_from, min(claims.expire_time, now + MAX_AGE))
            self._cache.put(token, entry)
        return entry

    async def _validate_opaque(
        self, caller: Caller, query: TokenQuery, now: float, asked: float | None
    ) -> Introspection:
        try:
            token = await self._opaque_tokens.read(query.token, asked=asked)
        except OpaqueTokenError as error:
            reason = InvalidReason.BAD_SIGNATURE if error.forged else InvalidReason.MALFORMED
            raise InvalidTokenError(reason) from None
        if query.kind is not None and token.kind is not query.kind:
            raise InvalidTokenError(InvalidReason.WRONG_TYPE)
        if caller.rights.rates:
            await self._rates.take_of_caller(caller, Operation.VALIDATE_OPAQUE)
        session = await self._sessions.get(token.session_id)
        if session is None:
            raise InvalidTokenError(InvalidReason.UNKNOWN_SESSION)
        if query.client_id and not _has_part(query.client_id, token.kind, session):
            raise InvalidTokenError(InvalidReason.WRONG_AUDIENCE)
        state = session.state(now)
        if state is not SessionState.ACTIVE:
            revoked = state is SessionState.REVOKED
            raise InvalidTokenError(InvalidReason.REVOKED if revoked else InvalidReason.EXPIRED)
        _check_secret(token, session)
        if token.kind is TokenKind.PERSONAL_ACCESS and query.audience not in ("", *session.audience):
            raise InvalidTokenError(InvalidReason.WRONG_AUDIENCE)
        if not set(query.required_scopes).issubset(session.scopes):
            raise InvalidTokenError(InvalidReason.INSUFFICIENT_SCOPE)
        if session.confirmation and not query.caller_checks_binding:
            self._check_possession(session.confirmation, query, now)
        if token.kind is TokenKind.SESSION:
            session = await self._use(session, now)
        elif token.kind is TokenKind.PERSONAL_ACCESS:
            used = await record_use(self._sessions, session, now)
            if used is None:
                raise InvalidTokenError(InvalidReason.REVOKED)
            session = used
        return Introspection(self._replica.cursor, None, OpaqueClaims(token.kind, session))

    async def _use(self, session: Session, now: float) -> Session:
        """Slide the idle expiry of a session that is in use."""
        idle_timeout = self._policies.of(session.client_id, session.audience).idle_timeout
        if now - session.last_use_time < idle_timeout / _USE_SHARE:
            return session
        used = await self._sessions.use(
            Use(session_id=session.id, now=now, idle_expire_time=now + idle_timeout)
        )
        if used is None:
            raise InvalidTokenError(InvalidReason.REVOKED)
        return used


def _has_part(client_id: str, kind: TokenKind, session: Session) -> bool:
    """Tell whether a token is issued to a client, or is a session token that the client may receive."""
    return client_id == session.client_id or (kind is TokenKind.SESSION and client_id in session.audience)


def _check_secret(token: OpaqueToken, session: Session) -> None:
    if token.kind is TokenKind.SESSION:
        if token.secret_hash != session.session_hash:
            raise InvalidTokenError(InvalidReason.BAD_SIGNATURE)
    elif token.kind is TokenKind.PERSONAL_ACCESS:
        if not holds_secret(session, token):
            raise InvalidTokenError(InvalidReason.BAD_SIGNATURE)
    elif token.generation < session.generation:
        raise InvalidTokenError(InvalidReason.SUPERSEDED)
    elif token.secret_hash != session.refresh_hash:
        raise InvalidTokenError(InvalidReason.BAD_SIGNATURE)
