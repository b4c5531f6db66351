from __future__ import annotations

import logging
from collections.abc import Generator
from typing import Any

import pytest

from tests.support.manual_clock import ManualClock
from tests.support.token_mint import AUDIENCE, ISSUER, Mint
from token_service.client._internal.clock import Instant
from token_service.client._internal.counters import Counters
from token_service.client._internal.local import (
    Answer,
    AskService,
    IssuerState,
    Known,
    LocalValidator,
    Proof,
    RefreshKeys,
)
from token_service.client._internal.remote import validate_request
from token_service.client.config import ForeignIssuer, Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.revocation import Revocation, RevocationTarget
from token_service.v1.token_pb2 import TOKEN_TYPE_TRANSACTION, TOKEN_TYPE_UNSPECIFIED

S = 5.0
ACCEPT_FOR = 60.0
FOREIGN = "https://foreign.test"
REMOTE, REJECT, ACCEPT = WhenStale.REMOTE, WhenStale.REJECT, WhenStale.ACCEPT


class Site:
    """A local validator for the service and a foreign issuer. The test takes the place of every other part."""

    def __init__(self, *when_stale: WhenStale, keys: bool = True, **changes: Any) -> None:
        self.clock = ManualClock()
        self.mint, self.foreign = Mint(), Mint(issuer=FOREIGN)
        freshness = Freshness(bound=S, when_stale=when_stale or (REJECT,), accept_for=ACCEPT_FOR)
        issuers = [
            ServiceIssuer(issuer=ISSUER, target="127.0.0.1:1", freshness=freshness),
            ForeignIssuer(issuer=FOREIGN, jwks_url="https://foreign.test/jwks"),
        ]
        self.counters = Counters()
        self.config = ValidatorConfig(**{"issuers": issuers, "audience": AUDIENCE, **changes})
        self.local = LocalValidator(self.config, self.clock, self.counters)
        if keys:
            self.take_keys()
        self.feed = self.local.issuers[ISSUER].feed
        self.prove()
        self.token = self.mint.token(self.clock.wall)

    def take_keys(self, issuer: str = ISSUER) -> None:
        assert self.local.replace_keys(issuer, [self.mint.jwk], 1)

    def prove(self) -> None:
        self.feed.proven_at = self.clock.running
        self.feed.fresh_from = self.clock.wall - 60
        self.feed.fresh_to = self.clock.wall + S
        self.feed.fresh_until = self.clock.running + S

    def revoke(self, token_id: str = "another") -> None:
        times = self.clock.wall, self.clock.wall + 9000
        self.feed.revocations.apply(Revocation(1, RevocationTarget.TOKEN_ID, token_id, *times))

    def check(self, token: Any = None, audience: str | None = AUDIENCE, scopes: Any = ()) -> Any:
        """Return the claims, `Known`, `IssuerState` or the reason of the refusal."""
        try:
            return self.local.check(self.token if token is None else token, audience, scopes)
        except InvalidTokenError as error:
            return error.reason

    def settle(self, missing: Any, scopes: Any = ()) -> Settling:
        return Settling(self.local.settle(missing, self.token, AUDIENCE, scopes))

    def answer(self, reason: InvalidReason | None = None) -> Answer:
        return Answer(reason, Instant.of(self.clock))


class Settling:
    """A running settlement: its questions and its result."""

    def __init__(self, steps: Generator[Any, Any, VerifiedClaims]) -> None:
        self._steps = steps
        self.request: Any = None
        self.result: Any = None
        self.tell(None)

    def tell(self, outcome: Any) -> None:
        self.request = None
        try:
            self.request = self._steps.send(outcome)
        except StopIteration as accepted:
            self.result = accepted.value
        except InvalidTokenError as error:
            self.result = error.reason
        except ReplicaStaleError as error:
            self.result = error

    @property
    def is_stale(self) -> bool:
        return isinstance(self.result, ReplicaStaleError)

    @property
    def accepted(self) -> bool:
        return isinstance(self.result, VerifiedClaims)


def stale_site(*when_stale: WhenStale, **changes: Any) -> tuple[Site, Known]:
    """Return a site whose freshness has just ended, and its `Known` of the token."""
    site = Site(*when_stale, **changes)
    assert isinstance(site.check(), VerifiedClaims)
    site.clock.advance(S)
    known = site.check()
    assert isinstance(known, Known)
    return site, known


# --- proofs ---


@pytest.mark.parametrize(
    ("now", "elapsed", "holds"),
    [
        (0.0, 0.0, True),
        (4.5, 4.5, True),
        (4.5, 5.0, False),
        (5.0, 4.5, False),
        (-60.0, 0.0, True),
        (-60.5, 0.0, False),
    ],
)
def test_a_proof_holds_for_s_by_both_clocks(now: float, elapsed: float, holds: bool) -> None:  # noqa: FBT001
    proof = Proof(Instant(1000.0, 200.0), S)
    assert proof.holds(1000.0 + now, 200.0 + elapsed) is holds


def test_repr_of_a_question_shows_no_token() -> None:
    question = AskService("secret", "api", frozenset({"write", "read"}))
    assert repr(question) == "AskService(audience='api', required_scopes=['read', 'write'])"


# --- check: claims of the token ---


def test_nothing_of_the_service_is_fresh_at_the_start_and_everything_of_a_foreign_issuer_is() -> None:
    site = Site()
    clock = site.clock.wall, site.clock.running
    state = LocalValidator(site.config, site.clock, site.counters).issuers
    assert not state[ISSUER].feed.is_fresh(*clock)
    assert state[FOREIGN].feed.is_fresh(*clock)
    own = site.config.issuers[0]
    assert isinstance(own, ServiceIssuer)
    assert state[ISSUER].freshness == own.freshness
    assert state[FOREIGN].freshness is None
    assert not state[ISSUER].has_keys
    assert not state[FOREIGN].has_keys


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize(
    ("leeway", "changes", "first", "last"),
    [
        (0.0, {}, -5.0, 900.0),
        (3.0, {}, -5.0, 903.0),
        (30.0, {}, -30.0, 930.0),
        (0.0, {"nbf": 100}, 95.0, 900.0),
        (0.0, {"iat": 100}, 95.0, 900.0),
        (30.0, {"nbf": 100}, 70.0, 930.0),
    ],
)
def test_a_token_is_good_in_its_time_and_the_leeway(
    leeway: float, changes: dict[str, int], first: float, last: float, *, cached: bool
) -> None:
    site = Site(leeway=leeway)
    site.take_keys(FOREIGN)
    begin = site.clock.wall
    times: dict[str, Any] = {name: int(begin) + seconds for name, seconds in changes.items()}
    site.token = site.foreign.token(begin, **times)
    site.clock.wall = begin + first
    if cached:
        assert isinstance(site.check(), VerifiedClaims)
    for seconds, reason in (
        (first - 0.5, InvalidReason.NOT_YET_VALID),
        (first, None),
        (last - 0.5, None),
        (last, InvalidReason.EXPIRED),
    ):
        if not cached:
            site.local.cache.clear()
        site.clock.wall = begin + seconds
        result = site.check()
        assert isinstance(result, VerifiedClaims) if reason is None else result is reason, seconds
    assert site.counters.rejected == {"NOT_YET_VALID": 1, "EXPIRED": 1}
    assert site.counters.verified == (1 if cached else 4)


@pytest.mark.parametrize("cached", [False, True])
def test_audience_and_scopes_are_those_of_the_call(*, cached: bool) -> None:
    site = Site()

    def check(**options: Any) -> Any:
        if not cached:
            site.local.cache.clear()
        return site.check(**options)

    claims = check()
    for options in ({"audience": None}, {"scopes": ["read"]}, {"scopes": {"read", "write"}}):
        assert check(**options).subject == claims.subject
    for audience in ("other", ""):
        assert check(audience=audience) is InvalidReason.WRONG_AUDIENCE
    for scopes in (["admin"], ["read", "admin"]):
        assert check(scopes=scopes) is InvalidReason.INSUFFICIENT_SCOPE
    assert site.counters.rejected == {"WRONG_AUDIENCE": 2, "INSUFFICIENT_SCOPE": 2}


def test_expiry_is_reported_before_every_other_reason() -> None:
    site = Site()
    site.token = site.mint.token(site.clock.wall, jti="gone")
    assert isinstance(site.check(), VerifiedClaims)
    site.revoke("gone")
    site.clock.advance(900.0)
    assert site.check() is InvalidReason.EXPIRED
    assert site.check(audience="other", scopes=["admin"]) is InvalidReason.EXPIRED


def test_revocation_is_reported_after_audience_and_before_scope() -> None:
    site = Site()
    site.token = site.mint.token(site.clock.wall, jti="gone")
    site.revoke("gone")
    assert site.check(scopes=["admin"]) is InvalidReason.REVOKED
    assert site.check(audience="other") is InvalidReason.WRONG_AUDIENCE


def test_one_text_is_no_collection_of_scopes() -> None:
    site = Site()
    with pytest.raises(TypeError, match="not one string"):
        site.check(scopes="read")
    assert isinstance(site.check(scopes=""), VerifiedClaims)
    with pytest.raises(TypeError, match="not one string"):
        site.check(scopes="admin")


@pytest.mark.parametrize("wrong", [b"a.b.c", 7, [], {}, "a.b.c"], ids=repr)
def test_text_that_is_no_token_is_malformed_or_of_unknown_issuer(wrong: Any) -> None:
    site = Site(issuers=[ServiceIssuer(issuer=ISSUER, target="127.0.0.1:1")])
    assert site.check(wrong) is InvalidReason.MALFORMED
    assert site.counters.rejected == {"MALFORMED": 1}


def test_configuration_of_a_foreign_issuer_gives_the_kind_of_plain_tokens() -> None:
    plain = ForeignIssuer(
        issuer=FOREIGN, jwks_url="https://foreign.test/jwks", plain_kind=TokenKind.ACCESS, typ_required=False
    )
    service = ServiceIssuer(issuer=ISSUER, target="127.0.0.1:1")
    site = Site(issuers=[service, plain])
    site.take_keys(FOREIGN)
    assert site.check(site.foreign.token(site.clock.wall, {"typ": "JWT"})).kind is TokenKind.ACCESS
    assert site.check(site.foreign.token(site.clock.wall, {"typ": ...})).kind is TokenKind.ACCESS
    assert site.check(site.mint.token(site.clock.wall, {"typ": "JWT"})) is InvalidReason.WRONG_TYPE
    strict = Site()
    strict.take_keys(FOREIGN)
    assert strict.check(strict.foreign.token(strict.clock.wall, {"typ": ...})) is InvalidReason.WRONG_TYPE


# --- check: the cache ---


@pytest.mark.parametrize("steps", [1, 2], ids=["slow path", "fast path"])
def test_cached_token_ages_by_the_monotonic_clock(steps: int) -> None:
    site = Site(cache_age=200.0)
    site.take_keys(FOREIGN)
    site.token = site.foreign.token(site.clock.wall)
    claims = site.check()
    site.clock.running += 199.5
    for _ in range(steps):
        assert site.check() is claims
    site.clock.running += 0.5
    again = site.check()
    assert again is not claims
    assert site.counters.verified == 2
    assert site.check() is again


def test_cache_age_of_zero_disables_the_cache() -> None:
    site = Site(cache_age=0.0)
    assert site.check() is not site.check()
    assert site.counters.verified == 2


def test_new_keys_begin_a_new_cache_and_unusable_ones_change_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    site = Site(keys=False, cache_capacity=2)
    state = site.local.issuers[ISSUER]
    before = state.has_keys
    assert site.check() is state
    site.take_keys()
    assert (before, state.has_keys) == (False, True)
    claims = site.check()
    assert isinstance(claims, VerifiedClaims)
    caplog.set_level(logging.INFO)
    cache = site.local.cache
    for unusable in ([], [{"kty": "oct", "kid": "shared", "k": "AAAA"}]):
        assert site.local.replace_keys(ISSUER, unusable, 2) is False
    assert "shared" in caplog.text
    assert site.local.cache is cache
    assert site.check() is claims
    assert site.local.replace_keys(ISSUER, [Mint(name="other").jwk], 3)
    assert site.check() is state
    assert site.local.verifier.key_set(ISSUER).revision == 3
    site.take_keys()
    for number in range(5):
        site.check(site.mint.token(site.clock.wall, jti=f"many-{number}"))
    assert len(site.local.cache) <= 2


def test_unknown_key_belongs_to_the_issuer_of_the_token() -> None:
    site = Site()
    assert site.check(site.foreign.token(site.clock.wall)) is site.local.issuers[FOREIGN]
    assert site.check(Mint(issuer="https://else.test").token(site.clock.wall)) is InvalidReason.WRONG_ISSUER
    other = Mint("ES256", "other", ISSUER)
    assert site.check(other.token(site.clock.wall)) is site.local.issuers[ISSUER]
    assert site.counters.rejected == {"WRONG_ISSUER": 1}
    assert site.counters.verified == 0


def test_token_that_is_not_revoked_is_accepted_by_its_cache_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    site = Site(leeway=30.0, cache_age=200.0)
    claims = site.check()
    monkeypatch.setattr(site.local, "_check", lambda *_: "looked closer")
    begin, running = site.clock.wall, site.clock.running
    feed, version = site.feed, site.feed.revocations.version

    def is_enough(**changes: Any) -> bool:
        options = {name: changes.pop(name) for name in ("audience", "scopes") if name in changes}
        site.clock.wall, site.clock.running = (
            begin + changes.pop("now", 0.0),
            running + changes.pop("age", 0.0),
        )
        feed.fresh_from = site.clock.wall - changes.pop("proven", 1.0)
        feed.fresh_to = site.clock.wall + changes.pop("left", 1.0)
        feed.fresh_until = site.clock.running + changes.pop("elapsed_left", 1.0)
        assert not changes
        result = site.check(**options)
        assert result in {claims, "looked closer"}
        return result is claims

    assert all(
        [
            is_enough(),
            is_enough(audience=None),
            is_enough(scopes=["read"]),
            is_enough(now=-30.0),
            is_enough(now=929.5),
            is_enough(proven=0.0),
            is_enough(left=0.5),
            is_enough(elapsed_left=0.5),
            is_enough(age=199.5),
        ]
    )
    assert not any(
        [
            is_enough(audience="other"),
            is_enough(audience=""),
            is_enough(scopes=["admin"]),
            is_enough(now=-30.5),
            is_enough(now=930.0),
            is_enough(proven=-0.5),
            is_enough(left=0.0),
            is_enough(elapsed_left=0.0),
            is_enough(age=200.0),
        ]
    )
    site.revoke()
    assert feed.revocations.version != version
    assert not is_enough()


# --- check: revocation and freshness ---


@pytest.mark.parametrize("cached", [False, True])
def test_a_verdict_needs_freshness_by_both_clocks(*, cached: bool) -> None:
    site = Site()
    now, elapsed = site.clock.wall, site.clock.running
    if cached:
        site.check()
    for fresh_from, fresh_to, fresh_until, fresh in (
        (now, now + 0.5, elapsed + 0.5, True),
        (now + 0.5, now + 1.0, elapsed + 0.5, False),
        (now - 0.5, now, elapsed + 0.5, False),
        (now - 0.5, now + 0.5, elapsed, False),
        (now - 0.5, now + 0.5, elapsed - 0.5, False),
    ):
        if not cached:
            site.local.cache.clear()
        site.feed.fresh_from, site.feed.fresh_to, site.feed.fresh_until = fresh_from, fresh_to, fresh_until
        assert isinstance(site.check(), VerifiedClaims if fresh else Known)
    assert site.counters.unproven == 4
    assert site.counters.rejected == {}


@pytest.mark.parametrize("cached", [False, True])
@pytest.mark.parametrize("fresh", [False, True])
def test_a_revoked_token_is_refused_fresh_or_not(*, cached: bool, fresh: bool) -> None:
    site = Site()
    site.token = site.mint.token(site.clock.wall, jti="gone")
    if cached:
        assert isinstance(site.check(), VerifiedClaims)
    site.revoke("gone")
    if not fresh:
        site.clock.advance(S)
    assert site.check() is InvalidReason.REVOKED
    assert site.check() is InvalidReason.REVOKED
    assert site.counters.rejected == {"REVOKED": 2}


def test_unrevoked_token_is_looked_up_once_per_version_of_the_set() -> None:
    site = Site()
    site.check()
    known = site.local.cache.get(site.token)
    assert known is not None
    assert known.clean_version == site.feed.revocations.version
    site.revoke()
    assert known.clean_version != site.feed.revocations.version
    assert isinstance(site.check(), VerifiedClaims)
    assert known.clean_version == site.feed.revocations.version


# --- settle: keys ---


def test_key_from_the_first_or_second_fetch_is_used() -> None:
    for fetches in (1, 2):
        site = Site(keys=False)
        settling = site.settle(site.check())
        for _ in range(fetches - 1):
            assert settling.request == RefreshKeys(ISSUER)
            settling.tell(False)
        assert settling.request == RefreshKeys(ISSUER)
        site.take_keys()
        settling.tell(True)
        assert settling.accepted
        assert site.counters.rejected == {}
        assert site.counters.rejected_stale == 0


@pytest.mark.parametrize(
    ("keys", "outcomes", "unknown"),
    [
        (True, (False, False), True),
        (True, (None, False), True),
        (True, (True, True), True),
        (True, (False, None), False),
        (True, (None, None), False),
        (False, (False, False), False),
    ],
)
def test_missing_key_rejects_the_token_only_after_a_successful_fetch(
    keys: bool,  # noqa: FBT001
    outcomes: tuple[bool | None, ...],
    unknown: bool,  # noqa: FBT001
) -> None:
    site = Site(keys=keys)
    site.token = Mint(name="other").token(site.clock.wall)
    settling = site.settle(site.check())
    for outcome in outcomes:
        assert settling.request == RefreshKeys(ISSUER)
        settling.tell(outcome)
    if unknown:
        assert settling.result is InvalidReason.UNKNOWN_KEY
        assert site.counters.rejected == {"UNKNOWN_KEY": 1}
        assert site.counters.rejected_stale == 0
    else:
        assert settling.is_stale
        assert site.counters.rejected == {}
        assert site.counters.rejected_stale == 1


def test_token_with_a_fetched_key_needs_a_proof() -> None:
    site = Site(REMOTE, keys=False)
    site.clock.advance(S)
    settling = site.settle(site.check(), ["read"])
    assert settling.request == RefreshKeys(ISSUER)
    site.take_keys()
    settling.tell(True)
    assert settling.request == AskService(site.token, AUDIENCE, frozenset({"read"}))
    settling.tell(site.answer())
    assert settling.accepted


def test_fetched_key_does_not_make_a_token_good() -> None:
    site = Site(keys=False)
    site.token = site.mint.token(site.clock.wall, aud=["other"])
    settling = site.settle(site.check())
    site.take_keys()
    settling.tell(True)
    assert settling.result is InvalidReason.WRONG_AUDIENCE


# --- settle: policies for a stale validator ---


@pytest.mark.parametrize("when_stale", [(REJECT,), (REJECT, ACCEPT), (REJECT, REMOTE)], ids=str)
def test_reject_asks_nothing_and_raises(when_stale: tuple[WhenStale, ...]) -> None:
    site, known = stale_site(*when_stale)
    settling = site.settle(known)
    assert settling.is_stale
    assert site.counters.rejected_stale == 1
    assert site.counters.accepted_stale == 0


def test_answer_of_the_service_proves_freshness_for_s_from_its_question() -> None:
    site, known = stale_site(REMOTE)
    asked = site.answer()
    settling = site.settle(known, ["write"])
    assert settling.request == AskService(site.token, AUDIENCE, frozenset({"write"}))
    site.clock.advance(2.0)
    settling.tell(asked)
    assert settling.accepted
    site.clock.advance(S - 2.5)
    assert site.check() is settling.result
    site.clock.advance(0.5)
    assert site.check() is known
    assert site.counters.rejected_stale == 0


def test_service_is_asked_about_a_transaction_token_as_such() -> None:
    freshness = Freshness(bound=S, when_stale=(REMOTE,))
    kinds = frozenset({TokenKind.TRANSACTION})
    issuer = ServiceIssuer(issuer=ISSUER, target="127.0.0.1:1", freshness=freshness, token_kinds=kinds)
    site = Site(issuers=[issuer, ForeignIssuer(issuer=FOREIGN, jwks_url="https://foreign.test/jwks")])
    header = {"typ": "txntoken+jwt"}
    site.token = site.mint.token(site.clock.wall, header, txn="tx-1", req_wl="gateway")
    site.clock.advance(S)
    settling = site.settle(site.check())
    assert settling.request == AskService(site.token, AUDIENCE, frozenset(), is_transaction=True)
    assert validate_request(settling.request).token_type_hint == TOKEN_TYPE_TRANSACTION
    settling.tell(site.answer())
    assert settling.accepted


def test_service_is_asked_about_an_access_token_without_a_hint() -> None:
    question = AskService("token", AUDIENCE, frozenset())
    assert validate_request(question).token_type_hint == TOKEN_TYPE_UNSPECIFIED


def test_proof_does_not_replace_the_revocation_lookup() -> None:
    site, known = stale_site(REMOTE)
    settling = site.settle(known)
    site.revoke(known.claims.token_id)
    settling.tell(site.answer())
    assert settling.result is InvalidReason.REVOKED
    assert site.counters.rejected == {"REVOKED": 1}


@pytest.mark.parametrize("reason", [InvalidReason.REVOKED, InvalidReason.INSUFFICIENT_SCOPE])
def test_rejection_by_the_service_is_final(reason: InvalidReason) -> None:
    site, known = stale_site(REMOTE, ACCEPT)
    settling = site.settle(known)
    settling.tell(site.answer(reason))
    assert settling.result is reason
    assert site.counters.rejected == {reason.value: 1}
    assert site.counters.rejected_stale == site.counters.accepted_stale == 0
    assert site.check() is known


def test_missing_answer_leads_to_the_next_policy() -> None:
    site, known = stale_site(REMOTE, REJECT)
    settling = site.settle(known)
    settling.tell(None)
    assert settling.is_stale
    assert site.counters.rejected_stale == 1
    site, known = stale_site(REMOTE, ACCEPT)
    settling = site.settle(known)
    settling.tell(None)
    assert settling.accepted
    assert (site.counters.accepted_stale, site.counters.rejected_stale) == (1, 0)


@pytest.mark.parametrize("size", [0, 5000], ids=["cached", "too large for the cache"])
def test_outdated_answer_is_requested_once_more(size: int) -> None:
    def site_of() -> tuple[Site, Known, Answer]:
        site = Site(REMOTE)
        site.token = site.mint.token(site.clock.wall, custom="x" * size)
        site.clock.advance(S)
        old = site.answer()
        site.clock.advance(S)
        return site, site.check(), old

    site, known, old = site_of()
    settling = site.settle(known)
    settling.tell(old)
    assert settling.request == AskService(site.token, AUDIENCE, frozenset())
    settling.tell(site.answer())
    assert settling.accepted
    assert site.counters.rejected_stale == 0

    site, known, old = site_of()
    settling = site.settle(known)
    settling.tell(old)
    settling.tell(old)
    assert settling.is_stale

    site, known, old = site_of()
    settling = site.settle(known)
    settling.tell(old)
    settling.tell(None)
    assert settling.is_stale
    assert site.counters.rejected_stale == 1


def test_a_validator_that_is_fresh_again_needs_no_proof() -> None:
    site, known = stale_site(REMOTE)
    old = site.answer()
    settling = site.settle(known)
    site.clock.advance(S)
    site.prove()
    settling.tell(old)
    assert settling.accepted
    site, known = stale_site(ACCEPT)
    site.prove()
    assert site.settle(known).accepted
    assert site.counters.accepted_stale == 0


@pytest.mark.parametrize("when_stale", [(ACCEPT,), (ACCEPT, REMOTE)], ids=str)
def test_accept_counts_from_the_last_proof(when_stale: tuple[WhenStale, ...]) -> None:
    site, known = stale_site(*when_stale)
    site.clock.advance(ACCEPT_FOR - S)
    settling = site.settle(known)
    assert settling.accepted
    assert site.counters.accepted_stale == 1
    site.clock.advance(0.5)
    settling = site.settle(known)
    assert not settling.accepted
    if REMOTE in when_stale:
        assert isinstance(settling.request, AskService)
    else:
        assert settling.is_stale
        assert site.counters.rejected_stale == 1
    assert site.counters.accepted_stale == 1


def test_accept_needs_a_proof_to_count_from() -> None:
    site, known = stale_site(ACCEPT)
    site.feed.proven_at = float("-inf")
    assert site.settle(known).is_stale


def test_accept_repeats_the_revocation_lookup() -> None:
    site, known = stale_site(ACCEPT)
    site.revoke(known.claims.token_id)
    assert site.settle(known).result is InvalidReason.REVOKED


@pytest.mark.parametrize("policy", [REMOTE, ACCEPT])
def test_a_token_whose_key_was_withdrawn_meanwhile_is_not_accepted(policy: WhenStale) -> None:
    site, known = stale_site(policy)
    assert site.local.replace_keys(ISSUER, [Mint(name="other").jwk], 2)
    assert isinstance(site.check(), IssuerState)
    settling = site.settle(known)
    while settling.request is not None:
        settling.tell(site.answer())
    assert settling.is_stale
    assert site.counters.accepted_stale == 0


def test_id_token_with_a_pairwise_subject_is_not_judged_locally() -> None:
    kinds = frozenset({TokenKind.ID})
    own = ServiceIssuer(issuer=ISSUER, target="127.0.0.1:1", token_kinds=kinds)
    foreign = ForeignIssuer(issuer=FOREIGN, jwks_url="https://foreign.test/jwks", token_kinds=kinds)
    site = Site(issuers=[own, foreign])
    assert site.local.replace_keys(FOREIGN, [site.foreign.jwk], 1)
    typ, now = {"typ": "JWT"}, site.clock.wall
    assert isinstance(site.check(site.mint.token(now, typ)), VerifiedClaims)
    assert site.check(site.mint.token(now, typ, sealed_sub="x")) is InvalidReason.WRONG_TYPE
    of_another_issuer = site.foreign.token(now, typ, sealed_sub="x")
    assert site.check(of_another_issuer) is not InvalidReason.WRONG_TYPE
