from __future__ import annotations

from typing import Any

import pytest

from tests.support.token_mint import Mint
from token_service.client.requirements import NOTHING_REQUIRED, Requirements
from token_service.errors import ConfigurationError, InvalidTokenError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.key_set import KeySet
from token_service.tokens.verifier import EARLY_LEEWAY, IssuerRules, Verifier

NOW = 1_800_000_000
MINT = Mint("ES256")
VERIFIER = Verifier([(IssuerRules(MINT.issuer, frozenset(Algorithm)), KeySet.from_jwks([MINT.jwk]))])


def claims(**changes: Any) -> VerifiedClaims:
    return VERIFIER.verify(MINT.token(NOW, **changes))


def refusal(requirements: Requirements, **changes: Any) -> tuple[str, str] | None:
    try:
        requirements.check(claims(**changes), NOW)
    except InvalidTokenError as error:
        return error.reason.value, error.message
    return None


@pytest.mark.parametrize("name", ["roles", "groups", "entitlements"])
@pytest.mark.parametrize(
    ("value", "admitted"),
    [
        (["clerk"], True),
        (["guest", "auditor"], True),
        ("clerk", True),
        ([7, "clerk"], True),
        ([], False),
        (["Clerk"], False),
        (["clerk auditor"], False),
        ("clerk auditor", False),
        ({"clerk": True}, False),
        (7, False),
        (None, False),
        (..., False),
    ],
)
def test_one_of_the_required_values_suffices(name: str, value: Any, *, admitted: bool) -> None:
    needed: Any = {name: ["clerk", "auditor"]}
    requirements = Requirements(**needed)
    expected = None if admitted else ("MISSING_ROLE", f"the token has none of the required {name}")
    assert refusal(requirements, **{name: value}) == expected


def test_each_kind_of_values_is_required() -> None:
    requirements = Requirements(roles=["clerk"], groups=["sales"], entitlements=["refund"])
    assert refusal(requirements, roles=["clerk"], groups=["sales"], entitlements=["refund"]) is None
    for missing in ("roles", "groups", "entitlements"):
        found = {"roles": ["clerk"], "groups": ["sales"], "entitlements": ["refund"], missing: ["other"]}
        assert refusal(requirements, **found) == (
            "MISSING_ROLE",
            f"the token has none of the required {missing}",
        )
    assert refusal(Requirements(roles=["sales"]), groups=["sales"]) is not None


def test_scopes_and_audience_are_left_to_the_validator() -> None:
    assert refusal(Requirements(scopes=["admin"], audience="other")) is None


def test_another_issuer_is_refused() -> None:
    assert refusal(Requirements(issuer=MINT.issuer)) is None
    assert refusal(Requirements(issuer=f"{MINT.issuer}/")) == (
        "WRONG_ISSUER",
        "the token is from another issuer",
    )


@pytest.mark.parametrize(
    ("auth_ctx", "admitted"),
    [
        ({"acr": "urn:mfa"}, True),
        ({"acr": "urn:hw"}, True),
        ({"acr": "urn:pwd"}, False),
        ({"acr": "urn:mfa urn:hw"}, False),
        ({"acr": ["urn:mfa"]}, False),
        ({"amr": ["urn:mfa"]}, False),
        ("urn:mfa", False),
        (..., False),
    ],
)
def test_acr_must_be_one_of_the_values(auth_ctx: Any, *, admitted: bool) -> None:
    expected = (
        None
        if admitted
        else ("INSUFFICIENT_AUTHENTICATION", "a stronger authentication of the user is required")
    )
    assert refusal(Requirements(acr_values=["urn:hw", "urn:mfa"]), auth_ctx=auth_ctx) == expected


@pytest.mark.parametrize(
    ("auth_time", "admitted"),
    [
        (NOW, True),
        (NOW - 300, True),
        (NOW - 301, False),
        (NOW + EARLY_LEEWAY, True),
        (NOW + EARLY_LEEWAY + 1, False),
        (str(NOW), False),
        (None, False),
    ],
)
def test_the_authentication_must_be_recent(auth_time: Any, *, admitted: bool) -> None:
    context = {} if auth_time is None else {"auth_time": auth_time}
    expected = (
        None
        if admitted
        else ("INSUFFICIENT_AUTHENTICATION", "a more recent authentication of the user is required")
    )
    assert refusal(Requirements(max_age=300), auth_ctx={"acr": "x", **context}) == expected


def test_a_maximum_age_of_zero_is_a_requirement() -> None:
    requirements = Requirements(max_age=0)
    assert refusal(requirements, auth_ctx={"auth_time": NOW}) is None
    assert refusal(requirements, auth_ctx={"auth_time": NOW - 1}) is not None
    assert refusal(requirements) is not None


def test_claims_without_any_of_these_meet_no_requirement() -> None:
    assert refusal(NOTHING_REQUIRED) is None
    assert refusal(Requirements()) is None


def test_equal_requirements_are_equal_in_any_order_of_sets() -> None:
    assert Requirements(scopes=["a", "b"], roles=["x"]) == Requirements(scopes=("b", "a", "a"), roles={"x"})
    assert hash(Requirements(scopes=["a", "b"])) == hash(Requirements(scopes=["b", "a"]))
    # The challenge names acr values by preference.
    assert Requirements(acr_values=["b", "a"]).acr_values == ("b", "a")
    assert Requirements(acr_values=["b", "a"]) != Requirements(acr_values=["a", "b"])


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        *(({name: "admin"}, name) for name in ("scopes", "roles", "groups", "entitlements", "acr_values")),
        *(({name: [""]}, name) for name in ("scopes", "roles", "groups", "entitlements", "acr_values")),
        *(({name: [7]}, name) for name in ("scopes", "roles", "groups", "entitlements", "acr_values")),
        ({"scopes": ["a b"]}, "'a b'"),
        ({"scopes": ['a"b']}, "characters"),
        ({"scopes": ["a\\b"]}, "characters"),
        ({"acr_values": ["a b"]}, "'a b'"),
        ({"max_age": -1}, "max_age is -1"),
        ({"max_age": float("nan")}, "max_age is nan"),
        ({"max_age": float("inf")}, "max_age is inf"),
    ],
)
def test_unusable_requirements_are_refused(wrong: Any, said: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Requirements(**wrong)
    assert said in caught.value.message


def test_roles_may_have_any_characters() -> None:
    assert refusal(Requirements(roles=['Head of "Sales" & Co']), roles=['Head of "Sales" & Co']) is None
