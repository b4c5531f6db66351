"""Local validation of tokens. No I/O: the caller performs the requests that this module yields.

`check` decides nearly every validation. When the key is unknown or the replica is not proven fresh, it returns
the missing part. `settle` is a generator that yields requests (`RefreshKeys`, `AskService`) and receives their
outcomes, so the validators for event loops and for threads share the same decisions.
"""

from __future__ import annotations

from collections.abc import Collection, Generator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from token_service.client._internal.clock import Instant, ValidatorClock
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.state import AlwaysFresh, Feed
from token_service.client._internal.keys import log_refused_keys
from token_service.client.config import ForeignIssuer, Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError
from token_service.tokens.claims import SEALED_SUBJECT, TokenKind, VerifiedClaims
from token_service.tokens.key_set import KeySet
from token_service.tokens.verified_cache import TokenCache
from token_service.tokens.verifier import (
    EARLY_LEEWAY,
    IssuerRules,
    Verifier,
    check_audience,
    check_scopes,
    check_times,
)

_MAX_CLOCK_STEP: Final = 60.0


@dataclass(frozen=True, slots=True)
class RefreshKeys:
    """Request to fetch the issuer's key set, unless the last fetch is recent.

    The outcome is whether the key set was accepted, or None if the service did not answer the last fetch.
    """

    issuer: str


@dataclass(frozen=True, slots=True)
class AskService:
    """Request to call `ValidateToken`. The outcome is an `Answer`, or None without an answer."""

    token: str
    audience: str | None
    required_scopes: frozenset[str]
    is_transaction: bool = False
    """Whether it is a transaction token, which the token service judges only if the request says so."""

    def __repr__(self) -> str:
        return f"AskService(audience={self.audience!r}, required_scopes={sorted(self.required_scopes)})"


@dataclass(frozen=True, slots=True)
class Answer:
    """Verdict of the token service on a token, with the time of the call."""

    reason: InvalidReason | None
    """None: the token is active."""
    asked: Instant
    """Read before the call. Validations that share an answer share its age."""


Request: TypeAlias = RefreshKeys | AskService
Outcome: TypeAlias = bool | Answer | None


class Proof:
    """Proof that a token was not revoked when the token service was asked.

    Valid for S seconds by both clocks, as in `Feed`.
    """

    __slots__ = ("_asked", "_bound")

    def __init__(self, asked: Instant, bound: float) -> None:
        self._asked = asked
        self._bound = bound

    def holds(self, now: float, elapsed: float) -> bool:
        """Return whether the proof is still valid."""
        age = now - self._asked.now
        return elapsed - self._asked.elapsed < self._bound and -_MAX_CLOCK_STEP <= age < self._bound


class Known(msgspec.Struct, gc=False, eq=False):
    """A verified token with its last verdicts."""

    claims: VerifiedClaims
    issuer: IssuerState
    feed: Feed
    valid_from: float
    valid_until: float
    drop_at: float
    clean_version: int = -1
    """Version of the revocation set that did not contain the token; -1: none yet."""
    proof: Proof | None = None


class IssuerState:
    """One issuer, with its rules, keys and revocations."""

    __slots__ = ("config", "feed", "freshness", "has_keys", "rules")

    def __init__(self, config: ServiceIssuer | ForeignIssuer) -> None:
        self.config = config
        self.has_keys = False
        self.feed: Feed = AlwaysFresh()
        self.freshness: Freshness | None = None
        if isinstance(config, ServiceIssuer):
            self.feed = Feed()
            self.freshness = config.freshness
            self.rules = IssuerRules(config.issuer, config.algorithms, config.token_kinds)
        else:
            self.rules = IssuerRules(
                config.issuer, config.algorithms, config.token_kinds, config.plain_kind, config.typ_required
            )


class LocalValidator:
    """Local decisions of a validator.

    Any thread may call `check` and `settle`; neither waits.
    """

    def __init__(self, config: ValidatorConfig, clock: ValidatorClock, counters: Counters) -> None:
        self.issuers = {issuer.issuer: IssuerState(issuer) for issuer in config.issuers}
        self.verifier = Verifier([(state.rules, KeySet([])) for state in self.issuers.values()])
        self.cache: TokenCache[Known] = TokenCache(config.cache_capacity)
        self._config = config
        self._counters = counters
        self._leeway = config.leeway
        self._early = max(config.leeway, EARLY_LEEWAY)
        self._cache_age = config.cache_age
        self._now, self._elapsed = clock.now, clock.elapsed

    def replace_keys(self, issuer: str, jwks: Sequence[Mapping[str, Any]], revision: int) -> bool:
        """Verify this issuer's tokens with these keys from now on.

        Returns False, and changes nothing, if none of the keys is usable.
        """
        key_set = KeySet.from_jwks(jwks, revision)
        log_refused_keys(issuer, key_set)
        if not len(key_set):
            return False
        self.verifier.replace_key_set(issuer, key_set)
        # After the verifier, so that no token verified with the old keys enters the new cache.
        self.cache = TokenCache(self._config.cache_capacity)
        self.issuers[issuer].has_keys = True
        return True

    def check(
        self, token: str, audience: str | None, required_scopes: Collection[str]
    ) -> VerifiedClaims | Known | IssuerState:
        """Return the claims of a valid token. Raises `InvalidTokenError` for an invalid token.

        Returns the `IssuerState` if the key is unknown, and the `Known` token if only freshness is missing: see
        `settle`.
        """
        try:
            entry = self.cache.young.get(token)
        except TypeError:
            entry = None  # not hashable: the verifier reports the fault
        if entry is not None:
            claims, feed = entry.claims, entry.feed
            if (
                (audience is None or audience in claims.audience)
                and (not required_scopes or claims.scopes.issuperset(required_scopes))
                and entry.valid_from <= (now := self._now()) < entry.valid_until
                and feed.fresh_from <= now < feed.fresh_to
                and (elapsed := self._elapsed()) < feed.fresh_until
                and elapsed < entry.drop_at
                # Compare the version last: the proof read above holds for the set of that moment or an earlier set. A
                # token that the current set does not revoke was not revoked by that set either.
                and entry.clean_version == feed.revocations.version
            ):
                return claims
        try:
            return self._check(token, audience, required_scopes)
        except InvalidTokenError as error:
            self._counters.rejected[error.reason.value] += 1
            raise

    def settle(
        self,
        missing: Known | IssuerState,
        token: str,
        audience: str | None,
        required_scopes: Collection[str],
    ) -> Generator[Request, Outcome, VerifiedClaims]:
        """Decide a validation that `check` left open. Raises `InvalidTokenError` or `ReplicaStaleError`."""
        result: VerifiedClaims | Known | IssuerState = missing
        if isinstance(result, IssuerState):
            issuer, taken = result, None
            # Ask twice: the first outcome may belong to a fetch that began before the key of this token existed. If
            # the first fetch began for this token, the limit on fetches prevents a second fetch.
            for _ in range(2):
                taken = yield RefreshKeys(issuer.config.issuer)
                result = self.check(token, audience, required_scopes)
                if not isinstance(result, IssuerState):
                    break
            else:
                if not issuer.has_keys:
                    self._counters.rejected_stale += 1
                    raise ReplicaStaleError(f"no key set of {issuer.config.issuer} has been received yet")
                if taken is None:
                    self._counters.rejected_stale += 1
                    raise ReplicaStaleError("no key with this kid is known, and the service does not answer")
                self._counters.rejected[InvalidReason.UNKNOWN_KEY.value] += 1
                raise InvalidTokenError(InvalidReason.UNKNOWN_KEY, "no key with this kid")
        if isinstance(result, Known):
            return (yield from self._settle_stale(result, token, audience, required_scopes))
        return result

    def _check(
        self, token: str, audience: str | None, required_scopes: Collection[str]
    ) -> VerifiedClaims | Known | IssuerState:
        cache = self.cache  # read before the token is verified: see `replace_keys`
        elapsed = self._elapsed()
        try:
            known = cache.get(token)
        except TypeError:
            known = None
        if known is None or elapsed >= known.drop_at:
            try:
                claims = self.verifier.verify(token)
            except InvalidTokenError as error:
                issuer = (
                    self.verifier.unverified_issuer(token)
                    if error.reason is InvalidReason.UNKNOWN_KEY
                    else None
                )
                if issuer is None:
                    raise
                return self.issuers[issuer]
            self._counters.verified += 1
            begin, issued = claims.not_before, claims.issue_time
            state = self.issuers[claims.issuer]
            if claims.kind is TokenKind.ID and state.freshness is not None:
                _require_open_subject(claims)
            known = Known(
                claims,
                state,
                state.feed,
                (begin if begin > issued else issued) - self._early,  # noqa: FURB136  # a call costs more
                claims.expire_time + self._leeway,
                elapsed + self._cache_age,
            )
            cache.put(token, known)
        claims, feed = known.claims, known.feed
        self._check_times(known, self._now())
        if audience is not None and audience not in claims.audience:
            check_audience(claims, audience)
        while True:
            version = feed.revocations.version
            if known.clean_version != version and feed.revocations.find(claims) is not None:
                raise InvalidTokenError(InvalidReason.REVOKED, "the token was revoked")
            now, elapsed = self._now(), self._elapsed()
            fresh = feed.fresh_from <= now < feed.fresh_to and elapsed < feed.fresh_until
            # A proof that arrived after the look-up also covers entries that arrived with it, and the look-up missed
            # these. Each set has its own versions, so this comparison also detects a replaced set.
            if feed.revocations.version == version:
                break
        # Check the times again: if the process was stopped before the look-up, the token may have expired, and its
        # entry may then be forgotten.
        self._check_times(known, now)
        known.clean_version = version
        if required_scopes:
            if isinstance(required_scopes, str):
                raise TypeError("required_scopes must be a collection of scopes, not one string")
            check_scopes(claims, required_scopes)
        if fresh:
            return claims
        self._counters.unproven += 1
        proof = known.proof
        if proof is not None and proof.holds(now, elapsed):
            return claims
        return known

    def _check_times(self, known: Known, now: float) -> None:
        if not known.valid_from <= now < known.valid_until:
            check_times(known.claims, now, self._leeway)

    def _settle_stale(
        self, known: Known, token: str, audience: str | None, required_scopes: Collection[str]
    ) -> Generator[Request, Outcome, VerifiedClaims]:
        freshness = known.issuer.freshness
        assert freshness is not None
        for policy in freshness.when_stale:
            if policy is WhenStale.REMOTE:
                # Ask twice: the first answer may belong to an old call of another validation, or the process may have
                # been stopped while it waited for the answer.
                for _ in range(2):
                    is_transaction = known.claims.kind is TokenKind.TRANSACTION
                    answer = yield AskService(token, audience, frozenset(required_scopes), is_transaction)
                    if not isinstance(answer, Answer):
                        break
                    if answer.reason is not None:
                        self._counters.rejected[answer.reason.value] += 1
                        raise InvalidTokenError(answer.reason, "rejected by the token service")
                    proof = known.proof = Proof(answer.asked, freshness.bound)
                    again = self.check(token, audience, required_scopes)
                    if isinstance(again, VerifiedClaims):
                        return again
                    # A token too large for the cache has no entry in which the check could find the proof.
                    if isinstance(again, Known) and proof.holds(self._now(), self._elapsed()):
                        return again.claims
            elif policy is WhenStale.ACCEPT:
                again, proven_at = self._check_with_age(known, token, audience, required_scopes)
                if isinstance(again, VerifiedClaims):
                    return again
                if isinstance(again, Known) and self._elapsed() - proven_at <= freshness.accept_for:
                    self._counters.accepted_stale += 1
                    return again.claims
            else:
                break
        self._counters.rejected_stale += 1
        raise ReplicaStaleError("the validator can't prove now that the token is not revoked")

    def _check_with_age(
        self, known: Known, token: str, audience: str | None, required_scopes: Collection[str]
    ) -> tuple[VerifiedClaims | Known | IssuerState, float]:
        """Call `check` again; return its result and the elapsed time of the last proof of the set it read."""
        feed = known.feed
        while True:
            version = feed.revocations.version
            result = self.check(token, audience, required_scopes)
            proven_at = feed.proven_at
            if feed.revocations.version == version:
                return result, proven_at


def _require_open_subject(claims: VerifiedClaims) -> None:
    """Raise `InvalidTokenError(WRONG_TYPE)` for an ID token of the service whose subject is pairwise.

    A revocation names the subject itself, so only the service can tell whether it revokes the token.
    """
    if SEALED_SUBJECT in claims.payload:
        raise InvalidTokenError(
            InvalidReason.WRONG_TYPE, "an ID token with a pairwise subject needs ValidateToken"
        )
