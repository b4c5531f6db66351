"""ValidateToken: whether a token is good now, and why not.

A JWT is judged in seven steps, and the first that fails names the reason: signature, times, issuer, audience,
structure, revocation, scopes. (Issuer and structure can't change, so they are checked when a signature is
seen for the first time.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from token_service.core.keys.keyring import Keyring
from token_service.core.keys.opaque_tokens import read_opaque_token
from token_service.core.policies.policy import Policies
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.core.sessions.session import Session, SessionState
from token_service.core.sessions.store import SessionStore, Use
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.opaque_token import OpaqueToken, OpaqueTokenError, looks_opaque
from token_service.tokens.revocation import Cursor
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
"""Using a session token moves its idle expiry once this share of the idle timeout has passed, so that most
uses write nothing.
"""


@dataclass(frozen=True, slots=True)
class TokenQuery:
    """A token and what is asked of it."""

    token: str = field(repr=False)
    audience: str = ""
    """Empty: any."""
    required_scopes: Sequence[str] = ()
    kind: TokenKind | None = None
    """None: any."""


@dataclass(frozen=True, slots=True)
class OpaqueClaims:
    """What an active refresh or session token stands for."""

    kind: TokenKind
    session: Session


@dataclass(frozen=True, slots=True)
class Introspection:
    """The answer. `reason` is set, and `claims` and `entry` are not, if the token is not active."""

    cursor: Cursor
    reason: InvalidReason | None = None
    claims: VerifiedClaims | OpaqueClaims | None = None
    entry: CacheEntry | None = None
    """The cached claims of an active JWT. An edge that keeps answers compares it by identity."""


class Introspector:
    """Judges tokens of every kind."""

    def __init__(
        self,
        verifier: Verifier,
        replica: Replica,
        tailer: Tailer,
        sessions: SessionStore,
        keyring: Keyring,
        policies: Policies,
    ) -> None:
        self._verifier = verifier
        self._replica = replica
        self._tailer = tailer
        self._sessions = sessions
        self._keyring = keyring
        self._policies = policies
        self._cache = VerifiedCache(_CACHE_CAPACITY)
        self._generation = verifier.generation

    async def catch_up(self) -> None:
        """After this, answers see every revocation acknowledged before it was called, on any node."""
        await self._tailer.catch_up()

    async def validate(self, query: TokenQuery, now: float, *, asked: float | None = None) -> Introspection:
        """Judge a token of any kind.

        Raises `StoreUnavailableError`, `ReplicaStaleError` and `KeysStaleError`.

        `asked`: when (monotonic) it came, if it came with others.
        """
        try:
            if len(query.token) > MAX_TOKEN_BYTES:
                raise InvalidTokenError(InvalidReason.TOO_LARGE)
            if looks_opaque(query.token):
                return await self._validate_opaque(query, now, asked)
        except InvalidTokenError as error:
            return Introspection(self._replica.cursor, error.reason)
        answer = self.validate_jwt(query, now)
        if answer.reason is InvalidReason.UNKNOWN_KEY and await self._tailer.look_for_keys(asked):
            return self.validate_jwt(query, now)
        return answer

    def validate_jwt(self, query: TokenQuery, now: float) -> Introspection:
        """Judge a JWT, without I/O."""
        self._tailer.require_fresh()
        replica = self._replica
        try:
            entry = self._entry(query.token, now)
            claims = entry.claims
            check_times(claims, now)
            if query.audience:
                check_audience(claims, query.audience)
            if query.kind is not None and claims.kind is not query.kind:
                raise InvalidTokenError(InvalidReason.WRONG_TYPE)
            revocations = replica.revocations
            if entry.clean_version != revocations.version:
                if revocations.find(claims) is not None:
                    raise InvalidTokenError(InvalidReason.REVOKED)
                entry.clean_version = revocations.version
            if query.required_scopes:
                check_scopes(claims, query.required_scopes)
        except InvalidTokenError as error:
            return Introspection(replica.cursor, error.reason)
        return Introspection(replica.cursor, None, claims, entry)

    @property
    def generation(self) -> int:
        """Changes with the keys: what was found at another generation must be judged anew."""
        return self._verifier.generation

    def still_active(self, entry: CacheEntry, generation: int, now: float) -> bool:
        """Whether the answer to a query for which a JWT was found active, at a generation, must be the same
        now.

        False: judge it anew. What else a query asks can't come out differently. Raises `ReplicaStaleError`.
        """
        self._tailer.require_fresh()
        return (
            entry.clean_version == self._replica.revocations.version
            and entry.valid_from <= now < entry.valid_until
            and generation == self._verifier.generation
        )

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

    async def _validate_opaque(self, query: TokenQuery, now: float, asked: float | None) -> Introspection:
        try:
            token = await read_opaque_token(
                query.token, self._keyring, self._tailer.look_for_keys, asked=asked
            )
        except OpaqueTokenError as error:
            reason = InvalidReason.BAD_SIGNATURE if error.forged else InvalidReason.MALFORMED
            raise InvalidTokenError(reason) from None
        if query.kind is not None and token.kind is not query.kind:
            raise InvalidTokenError(InvalidReason.WRONG_TYPE)
        session = await self._sessions.get(token.session_id)
        if session is None:
            raise InvalidTokenError(InvalidReason.UNKNOWN_SESSION)
        state = session.state(now)
        if state is not SessionState.ACTIVE:
            revoked = state is SessionState.REVOKED
            raise InvalidTokenError(InvalidReason.REVOKED if revoked else InvalidReason.EXPIRED)
        _check_secret(token, session)
        if not set(query.required_scopes).issubset(session.scopes):
            raise InvalidTokenError(InvalidReason.INSUFFICIENT_SCOPE)
        if token.kind is TokenKind.SESSION:
            session = await self._use(session, now)
        return Introspection(self._replica.cursor, None, OpaqueClaims(token.kind, session))

    async def _use(self, session: Session, now: float) -> Session:
        """Slide the idle expiry of a session that is in use."""
        idle_timeout = self._policies.of(session.client_id).idle_timeout
        if now - session.last_use_time < idle_timeout / _USE_SHARE:
            return session
        used = await self._sessions.use(
            Use(session_id=session.id, now=now, idle_expire_time=now + idle_timeout)
        )
        if used is None:
            raise InvalidTokenError(InvalidReason.REVOKED)
        return used


def _check_secret(token: OpaqueToken, session: Session) -> None:
    if token.kind is TokenKind.SESSION:
        if token.secret_hash != session.session_hash:
            raise InvalidTokenError(InvalidReason.BAD_SIGNATURE)
    elif token.generation < session.generation:
        raise InvalidTokenError(InvalidReason.SUPERSEDED)
    elif token.secret_hash != session.refresh_hash:
        raise InvalidTokenError(InvalidReason.BAD_SIGNATURE)
