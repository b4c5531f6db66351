"""The rules of the FAPI 2.0 Security Profile for registrations, authentication and policies."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.support.token_mint import jwk_of, private_key
from token_service.core.clients.client import (
    CLIENT_CREDENTIALS,
    AuthMethod,
    Client,
    ClientMetadata,
    SecurityProfile,
)
from token_service.core.clients.profile import (
    ProfileRules,
    assertion_algorithms,
    may_authenticate,
    policy_in_force,
    requires_pushed_requests,
)
from token_service.core.limits import Checks
from token_service.core.policies.policy import Policy
from token_service.errors import InvalidRequestError
from token_service.tokens.algorithms import Algorithm

FAPI = SecurityProfile.FAPI2
RS256, PS256, ES256, EDDSA = Algorithm.RS256, Algorithm.PS256, Algorithm.ES256, Algorithm.EDDSA


def jwks(*algorithms: str) -> str:
    return json.dumps({"keys": [jwk_of(private_key(each), each) for each in algorithms]})


KEYED: dict[str, Any] = {
    "token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT,
    "jwks": jwks("PS256", "ES256", "EdDSA"),
}


def problems(rules: ProfileRules, **settings: Any) -> dict[str, str]:
    checks = Checks()
    rules.check(checks, ClientMetadata(**settings))
    try:
        checks.done()
    except InvalidRequestError as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


def a_client(**settings: Any) -> Client:
    return Client(client_id="app", create_time=0, update_time=0, **settings)


@pytest.mark.parametrize("signing", [PS256, ES256, EDDSA])
@pytest.mark.parametrize(
    "settings",
    [
        KEYED,
        {"token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT, "jwks_uri": "https://a.example/jwks"},
        {
            "token_endpoint_auth_method": AuthMethod.TLS_CLIENT_AUTH,
            "tls_client_auth_san_dns": "a.example",
            "tls_client_certificate_bound_access_tokens": True,
        },
        {**KEYED, "grant_types": (CLIENT_CREDENTIALS,), "dpop_bound_access_tokens": True},
    ],
)
def test_registration_that_keeps_the_profile_is_accepted(
    settings: dict[str, Any], signing: Algorithm
) -> None:
    assert problems(ProfileRules(signing=signing), **settings, security_profile=FAPI) == {}
    assert problems(ProfileRules(FAPI, signing), **settings) == {}


@pytest.mark.parametrize(
    ("settings", "field", "part"),
    [
        ({}, "token_endpoint_auth_method", "is none; the security profile fapi2 allows private_key_jwt"),
        (
            {"token_endpoint_auth_method": AuthMethod.CLIENT_SECRET_BASIC},
            "token_endpoint_auth_method",
            "is client_secret_basic",
        ),
        ({**KEYED, "accepts_endpoint_audience": True}, "accepts_endpoint_audience", "aud of an assertion"),
        ({**KEYED, "jwks": jwks("ES256", "RS256")}, "jwks.keys[1]", "is a key for RS256"),
    ],
)
def test_registration_that_contradicts_the_profile_is_refused(
    settings: dict[str, Any], field: str, part: str
) -> None:
    own = problems(ProfileRules(), **settings, security_profile=FAPI)
    assert list(own) == [field]
    assert part in own[field]
    assert problems(ProfileRules(FAPI), **settings) == own
    assert problems(ProfileRules(), **settings) == {}


@pytest.mark.parametrize("signing", [RS256, Algorithm.HS256])
def test_profile_needs_a_service_that_signs_with_an_allowed_algorithm(signing: Algorithm) -> None:
    found = problems(ProfileRules(signing=signing), **KEYED, security_profile=FAPI)
    assert list(found) == ["security_profile"]
    assert "TOKEN_SERVICE_SIGNING_ALGORITHM" in found["security_profile"]
    assert problems(ProfileRules(signing=signing), **KEYED) == {}


def test_keys_that_another_rule_refuses_are_left_to_it() -> None:
    for text in ('{"keys":[{}]}', '{"keys":[1]}', '{"keys":1}', "{", "[]"):
        assert problems(ProfileRules(FAPI), **{**KEYED, "jwks": text}) == {}


def test_client_authenticates_itself_by_its_own_method_if_the_profile_allows_it() -> None:
    for method in AuthMethod:
        client = a_client(token_endpoint_auth_method=method)
        assert [each for each in AuthMethod if may_authenticate(client, each)] == [method]
    allowed = {
        method
        for method in AuthMethod
        if may_authenticate(a_client(token_endpoint_auth_method=method, security_profile=FAPI), method)
    }
    assert allowed == {AuthMethod.PRIVATE_KEY_JWT, AuthMethod.TLS_CLIENT_AUTH}


def test_assertions_have_the_algorithms_of_the_profile() -> None:
    assert set(assertion_algorithms(a_client())) == {"RS256", "PS256", "ES256", "EdDSA", "Ed25519"}
    assert set(assertion_algorithms(a_client(security_profile=FAPI))) == {
        "PS256",
        "ES256",
        "EdDSA",
        "Ed25519",
    }


def test_requests_are_pushed() -> None:
    plain, strict = a_client(), a_client(security_profile=FAPI)
    assert not requires_pushed_requests(plain)
    assert requires_pushed_requests(strict)
    assert requires_pushed_requests(a_client(require_pushed_authorization_requests=True))


def test_policy_binds_tokens_keeps_refresh_tokens_and_demands_nonces() -> None:
    policy = Policy(access_token_ttl=77)
    assert policy_in_force(policy, None) is policy
    assert policy_in_force(policy, a_client()) is policy
    assert policy_in_force(policy, a_client(security_profile=FAPI)) == replace(
        policy, binding_required=True, rotate=False, dpop_nonces=True
    )
    for name in ("dpop_bound_access_tokens", "tls_client_certificate_bound_access_tokens"):
        assert policy_in_force(policy, a_client(**{name: True})) == replace(policy, binding_required=True)
