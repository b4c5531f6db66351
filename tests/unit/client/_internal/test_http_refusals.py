from __future__ import annotations

from typing import Any

import pytest

from token_service.client._internal.challenges import parse_challenges
from token_service.client._internal.http_refusals import Challenger, Refusal
from token_service.client.requirements import NOTHING_REQUIRED, Requirements
from token_service.errors import (
    CallerUnauthenticatedError,
    InvalidReason,
    InvalidTokenError,
    OverloadedError,
    ReplicaStaleError,
    TokenServiceError,
)

ERRORS = [
    (InvalidReason.MALFORMED, 401, "invalid_token"),
    (InvalidReason.BAD_SIGNATURE, 401, "invalid_token"),
    (InvalidReason.UNKNOWN_KEY, 401, "invalid_token"),
    (InvalidReason.EXPIRED, 401, "invalid_token"),
    (InvalidReason.NOT_YET_VALID, 401, "invalid_token"),
    (InvalidReason.WRONG_ISSUER, 401, "invalid_token"),
    (InvalidReason.WRONG_AUDIENCE, 401, "invalid_token"),
    (InvalidReason.INSUFFICIENT_SCOPE, 403, "insufficient_scope"),
    (InvalidReason.REVOKED, 401, "invalid_token"),
    (InvalidReason.WRONG_TYPE, 401, "invalid_token"),
    (InvalidReason.UNKNOWN_SESSION, 401, "invalid_token"),
    (InvalidReason.SUPERSEDED, 401, "invalid_token"),
    (InvalidReason.TOO_LARGE, 401, "invalid_token"),
    (InvalidReason.PROOF_MISSING, 401, "invalid_token"),
    (InvalidReason.PROOF_INVALID, 401, "invalid_dpop_proof"),
    (InvalidReason.PROOF_NONCE, 401, "use_dpop_nonce"),
    (InvalidReason.WRONG_KEY, 401, "invalid_token"),
    (InvalidReason.MISSING_ROLE, 403, "insufficient_scope"),
    (InvalidReason.INSUFFICIENT_AUTHENTICATION, 401, "insufficient_user_authentication"),
]
PLAIN = Challenger(accepts_dpop=False)
BOTH = Challenger()


def challenges(refusal: Refusal) -> list[tuple[str, dict[str, str]]]:
    """Return the challenges, each of its own header."""
    found = []
    for name, value in refusal.headers:
        if name == "www-authenticate":
            [(scheme, parameters)] = parse_challenges(value)
            found.append((scheme, dict(parameters)))
    return found


def refused(
    challenger: Challenger,
    reason: InvalidReason,
    required: Requirements = NOTHING_REQUIRED,
    **options: Any,
) -> Refusal:
    return challenger.refusal(InvalidTokenError(reason, "why"), required, **options)


def test_a_request_without_token_gets_a_challenge_without_error() -> None:
    refusal = Challenger(realm="shop", accepts_dpop=False).no_token()
    assert refusal == Refusal(
        401, (("www-authenticate", 'Bearer realm="shop"'),), "an access token is needed"
    )
    assert PLAIN.no_token().headers == (("www-authenticate", "Bearer"),)
    same = PLAIN.refusal(CallerUnauthenticatedError("no token"), NOTHING_REQUIRED)
    assert same == Refusal(401, (("www-authenticate", "Bearer"),), "no token")


def test_a_service_that_takes_proofs_offers_both_schemes() -> None:
    [bearer, dpop] = challenges(Challenger(realm="shop").no_token())
    assert bearer == ("bearer", {"realm": "shop"})
    assert dpop[0] == "dpop"
    assert dpop[1].keys() == {"realm", "algs"}
    algorithms = dpop[1]["algs"].split(" ")
    assert {"ES256", "EdDSA"} <= set(algorithms)
    assert not {"HS256", "none"} & set(algorithms)


@pytest.mark.parametrize(("reason", "status", "error"), ERRORS)
def test_every_reason_has_its_status_and_error(reason: InvalidReason, status: int, error: str) -> None:
    refusal = refused(BOTH, reason)
    assert (refusal.status, refusal.body) == (status, "why")
    found = challenges(refusal)
    assert {parameters["error"] for _, parameters in found} == {error}
    assert {parameters["error_description"] for _, parameters in found} == {"why"}
    # An error of a proof concerns the DPoP scheme alone.
    of_proof = error in {"invalid_dpop_proof", "use_dpop_nonce"}
    assert [scheme for scheme, _ in found] == (["dpop"] if of_proof else ["bearer", "dpop"])


def test_no_reason_is_forgotten() -> None:
    assert [reason for reason, _, _ in ERRORS] == list(InvalidReason)


def test_missing_scopes_are_named() -> None:
    required = Requirements(scopes=["orders:write", "orders:read"])
    [(_, parameters)] = challenges(refused(PLAIN, InvalidReason.INSUFFICIENT_SCOPE, required))
    assert parameters["scope"] == "orders:read orders:write"
    [(_, parameters)] = challenges(
        refused(PLAIN, InvalidReason.MISSING_ROLE, Requirements(scopes=["orders:write"], roles=["clerk"]))
    )
    assert parameters.keys() == {
        "error",
        "error_description",
    }  # no scope helps, and roles are not the client's choice


def test_step_up_names_its_requirements() -> None:
    """RFC 9470, section 3."""
    required = Requirements(scopes=["pay"], acr_values=["urn:hw", "urn:mfa"], max_age=300)
    refusal = refused(PLAIN, InvalidReason.INSUFFICIENT_AUTHENTICATION, required)
    assert refusal.headers == (
        (
            "www-authenticate",
            (
                'Bearer error="insufficient_user_authentication", error_description="why",'
                ' acr_values="urn:hw urn:mfa", max_age="300"'
            ),
        ),
    )
    only_age = refused(PLAIN, InvalidReason.INSUFFICIENT_AUTHENTICATION, Requirements(max_age=0))
    assert challenges(only_age)[0][1].keys() == {"error", "error_description", "max_age"}
    assert challenges(only_age)[0][1]["max_age"] == "0"
    only_acr = refused(PLAIN, InvalidReason.INSUFFICIENT_AUTHENTICATION, Requirements(acr_values=["a"]))
    assert challenges(only_acr)[0][1].keys() == {"error", "error_description", "acr_values"}


def test_every_challenge_names_the_metadata_of_the_resource() -> None:
    """RFC 9728, section 5.1."""
    url = "https://api.example/.well-known/oauth-protected-resource"
    challenger = Challenger(realm="shop", resource_metadata=url)
    for refusal in (
        challenger.no_token(),
        challenger.invalid_request("twice"),
        challenger.unfit_claims("tenant is missing"),
        refused(challenger, InvalidReason.EXPIRED),
        refused(challenger, InvalidReason.INSUFFICIENT_SCOPE),
        refused(challenger, InvalidReason.PROOF_INVALID),
    ):
        found = challenges(refusal)
        assert found
        assert {parameters["resource_metadata"] for _, parameters in found} == {url}
        assert {parameters["realm"] for _, parameters in found} == {"shop"}


def test_a_nonce_is_told_where_nonces_are_required() -> None:
    """RFC 9449, section 9."""
    refusal = refused(BOTH, InvalidReason.PROOF_NONCE, nonce="n-1")
    assert ("dpop-nonce", "n-1") in refusal.headers
    [(scheme, parameters)] = challenges(refusal)
    assert (scheme, parameters["error"]) == ("dpop", "use_dpop_nonce")
    assert ("dpop-nonce", "n-1") in BOTH.no_token(nonce="n-1").headers
    assert ("dpop-nonce", "n-1") in refused(BOTH, InvalidReason.EXPIRED, nonce="n-1").headers
    assert not any(name == "dpop-nonce" for name, _ in refused(BOTH, InvalidReason.EXPIRED).headers)


def test_malformed_requests_get_400() -> None:
    refusal = PLAIN.invalid_request("more than one Authorization header")
    assert refusal == Refusal(
        400,
        (
            (
                "www-authenticate",
                'Bearer error="invalid_request", error_description="more than one Authorization header"',
            ),
        ),
        "more than one Authorization header",
    )


def test_claims_that_do_not_fit_get_403() -> None:
    refusal = PLAIN.unfit_claims("`tenant` is missing")
    assert refusal.status == 403
    assert challenges(refusal) == [
        ("bearer", {"error": "insufficient_scope", "error_description": "`tenant` is missing"})
    ]


@pytest.mark.parametrize(
    "error",
    [
        ReplicaStaleError("no key set of https://issuer.internal has been received yet"),
        OverloadedError("500000 DPoP proofs are remembered already"),
        TokenServiceError("10.0.0.7:50051 refused the connection"),
    ],
)
def test_a_refusal_that_is_not_about_the_token_tells_no_cause(error: TokenServiceError) -> None:
    refusal = Challenger(realm="shop").refusal(error, Requirements(scopes=["secret:scope"]), nonce="n-1")
    assert refusal == Refusal(503, (("retry-after", "1"),), "temporarily unavailable; retry later")


def test_texts_can_not_break_out_of_a_challenge() -> None:
    error = InvalidTokenError(InvalidReason.MALFORMED, 'a"b\\c\r\nSet-Cookie: x=1\té')
    refusal = PLAIN.refusal(error, NOTHING_REQUIRED)
    [(_, value)] = refusal.headers
    assert value == 'Bearer error="invalid_token", error_description="a?b?c??Set-Cookie: x=1??"'
