"""Proof of possession: bound tokens with and without the proof of their key."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.tokens.dpop_proofs import NOW, TOKEN, URI, ProofMaker
from token_service.errors import InvalidReason, InvalidTokenError, OverloadedError
from token_service.tokens.claims import Confirmation
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.possession import PossessionChecker, Presented, Scheme
from token_service.tokens.replays import Replays
from token_service.tokens.secret import Secret

MAKER = ProofMaker()
CERTIFICATE = "c" * 43
DPOP_BOUND = Confirmation(jkt=MAKER.jkt)
CERTIFICATE_BOUND = Confirmation(x5t_s256=CERTIFICATE)
KEY = Secret(b"k" * 32)


def presented(proof: str | None = None, certificate: str = "") -> Presented:
    return Presented(dpop_proof=proof, method="GET", uri=URI, certificate_thumbprint=certificate)


def verdict(
    confirmation: Confirmation,
    of_request: Presented,
    scheme: Scheme | None = Scheme.DPOP,
    checker: PossessionChecker | None = None,
    now: float = NOW,
) -> InvalidReason | None:
    checker = checker or PossessionChecker()
    try:
        checker.check(confirmation, TOKEN, of_request, scheme=scheme, now=now, elapsed=now)
    except InvalidTokenError as error:
        return error.reason
    return None


def test_bound_token_with_its_proof_is_accepted() -> None:
    assert verdict(DPOP_BOUND, presented(MAKER.proof())) is None
    assert verdict(DPOP_BOUND, presented(MAKER.proof()), None) is None
    assert verdict(CERTIFICATE_BOUND, presented(certificate=CERTIFICATE), Scheme.BEARER) is None
    both = Confirmation(MAKER.jkt, CERTIFICATE)
    assert verdict(both, presented(MAKER.proof(), CERTIFICATE)) is None


@pytest.mark.parametrize(
    ("confirmation", "of_request", "scheme", "reason"),
    [
        (DPOP_BOUND, presented(), Scheme.DPOP, "PROOF_MISSING"),
        (DPOP_BOUND, presented(MAKER.proof()), Scheme.BEARER, "PROOF_MISSING"),
        (DPOP_BOUND, presented(certificate=CERTIFICATE), Scheme.BEARER, "PROOF_MISSING"),
        (DPOP_BOUND, presented(ProofMaker().proof()), Scheme.DPOP, "WRONG_KEY"),
        (DPOP_BOUND, presented(MAKER.proof(method="PUT")), Scheme.DPOP, "PROOF_INVALID"),
        (DPOP_BOUND, presented(MAKER.proof(token="other")), Scheme.DPOP, "PROOF_INVALID"),
        (CERTIFICATE_BOUND, presented(), Scheme.BEARER, "PROOF_MISSING"),
        (CERTIFICATE_BOUND, presented(certificate="d" * 43), Scheme.BEARER, "WRONG_KEY"),
        (CERTIFICATE_BOUND, presented(certificate="é"), Scheme.BEARER, "WRONG_KEY"),
        (CERTIFICATE_BOUND, presented(MAKER.proof(), CERTIFICATE), Scheme.DPOP, "WRONG_TYPE"),
        (Confirmation(MAKER.jkt, CERTIFICATE), presented(MAKER.proof()), Scheme.DPOP, "PROOF_MISSING"),
        (
            Confirmation(is_unknown=True),
            presented(MAKER.proof(), CERTIFICATE),
            Scheme.BEARER,
            "PROOF_MISSING",
        ),
        (Confirmation("é"), presented(MAKER.proof()), Scheme.DPOP, "WRONG_KEY"),
        (Confirmation(), presented(MAKER.proof()), Scheme.DPOP, "WRONG_TYPE"),
    ],
)
def test_request_without_the_right_proof_is_refused(
    confirmation: Confirmation, of_request: Presented, scheme: Scheme, reason: str
) -> None:
    assert verdict(confirmation, of_request, scheme) is InvalidReason(reason)


def test_token_that_is_not_bound_needs_no_proof() -> None:
    assert verdict(Confirmation(), presented(), Scheme.BEARER) is None
    assert verdict(Confirmation(), presented(certificate=CERTIFICATE), None) is None


@pytest.mark.parametrize(
    ("age", "accepted"), [(-10, True), (-11, False), (0, True), (70, True), (71, False), (1e9, False)]
)
def test_proof_is_accepted_from_its_issue_for_a_minute(age: float, *, accepted: bool) -> None:
    found = verdict(DPOP_BOUND, presented(MAKER.proof()), now=NOW + age)
    assert found is (None if accepted else InvalidReason.PROOF_INVALID)


def test_proof_is_accepted_once_while_it_is_young_enough() -> None:
    checker = PossessionChecker()
    proof = MAKER.proof(now=NOW + 10)
    assert verdict(DPOP_BOUND, presented(proof), checker=checker) is None
    for seconds in (0, 1, 35, 79.9):
        assert verdict(DPOP_BOUND, presented(proof), checker=checker, now=NOW + seconds) is not None


def test_two_keys_may_use_the_same_jti() -> None:
    checker, other = PossessionChecker(), ProofMaker()
    assert verdict(DPOP_BOUND, presented(MAKER.proof(jti="same")), checker=checker) is None
    assert verdict(Confirmation(other.jkt), presented(other.proof(jti="same")), checker=checker) is None


def test_nonce_is_required_where_nonces_are_configured() -> None:
    nonces = DpopNonces([KEY])
    checker = PossessionChecker(nonces=nonces)

    def with_nonce(nonce: Any, now: float = NOW) -> InvalidReason | None:
        return verdict(DPOP_BOUND, presented(MAKER.proof(nonce=nonce, now=now)), checker=checker, now=now)

    assert with_nonce(...) is InvalidReason.PROOF_NONCE
    assert with_nonce("made-up") is InvalidReason.PROOF_NONCE
    nonce = nonces.current(NOW)
    assert with_nonce(nonce) is None
    assert with_nonce(nonce, NOW + 60) is None
    assert with_nonce(nonce, NOW - 60) is None
    assert with_nonce(nonce, NOW + 120) is InvalidReason.PROOF_NONCE
    assert with_nonce(DpopNonces([Secret(b"x" * 32)]).current(NOW)) is InvalidReason.PROOF_NONCE


def test_proof_without_nonce_may_be_repeated_with_one() -> None:
    """A refused proof is not remembered: the sender may use its `jti` again."""
    nonces = DpopNonces([KEY])
    checker = PossessionChecker(nonces=nonces)
    assert verdict(DPOP_BOUND, presented(MAKER.proof(jti="again")), checker=checker) is not None
    proof = MAKER.proof(jti="again", nonce=nonces.current(NOW))
    assert verdict(DPOP_BOUND, presented(proof), checker=checker) is None


def test_nonces_of_a_previous_key_are_accepted() -> None:
    old, new = Secret(b"o" * 32), Secret(b"n" * 32)
    assert DpopNonces([new, old]).accepts(DpopNonces([old]).current(NOW), NOW)
    assert DpopNonces([new, old]).current(NOW) == DpopNonces([new]).current(NOW)
    with pytest.raises(ValueError, match="32 bytes"):
        DpopNonces([Secret(b"short")])


def test_replay_memory_forgets_after_its_window_and_never_before() -> None:
    replays = Replays(10)
    assert replays.use("a", "b", 0.0)
    assert not replays.use("a", "b", 9.9)
    assert not replays.use("a", "b", 19.9)
    assert replays.use("a", "b", 30.0)
    assert replays.use("", "ab", 30.0)  # the border of scope and identifier matters


def test_full_replay_memory_refuses_instead_of_forgetting() -> None:
    replays = Replays(10, capacity=2)
    assert replays.use("a", "1", 0.0)
    assert replays.use("a", "2", 0.0)
    with pytest.raises(OverloadedError):
        replays.use("a", "3", 1.0)
    assert not replays.use("a", "1", 1.0)
    assert replays.use("a", "3", 20.0)
    assert len(replays) == 1
