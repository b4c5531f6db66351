"""Rules for the settings of a client."""

from __future__ import annotations

import json
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from token_service.core.clients.client import GRANT_TYPES, AuthMethod, ClientMetadata
from token_service.core.clients.validation import MAX_REDIRECT_URIS, check_client_id, check_metadata
from token_service.core.limits import Checks
from token_service.errors import InvalidRequestError
from token_service.tokens.jwk import public_jwk

JWK = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
JWKS = json.dumps({"keys": [JWK]})
CONFIDENTIAL = {"token_endpoint_auth_method": AuthMethod.CLIENT_SECRET_BASIC}
KEYED = {"token_endpoint_auth_method": AuthMethod.PRIVATE_KEY_JWT}
TLS = {"token_endpoint_auth_method": AuthMethod.TLS_CLIENT_AUTH}


def problems(**settings: Any) -> dict[str, str]:
    checks = Checks()
    check_metadata(checks, ClientMetadata(**settings), {"internal", "restricted"})
    return violations(checks)


def violations(checks: Checks) -> dict[str, str]:
    try:
        checks.done()
    except InvalidRequestError as error:
        return {violation.field: violation.description for violation in error.violations}
    return {}


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"client_name": "Sales é", "classification": "restricted", "scopes": ("a:b",), "audiences": ("api",)},
        {**CONFIDENTIAL, "grant_types": GRANT_TYPES, "redirect_uris": ("https://a.example/cb",)},
        {**KEYED, "jwks": JWKS, "accepts_endpoint_audience": True},
        {**KEYED, "jwks_uri": "https://a.example/jwks?v=1"},
        {**TLS, "tls_client_auth_san_uri": "spiffe://example.org/app"},
        {**TLS, "tls_client_auth_san_dns": "app.example.org"},
        {"backchannel_logout_uri": "https://a.example/out", "sector_identifier_uri": "https://a.example/s"},
    ],
)
def test_consistent_settings_are_accepted(settings: dict[str, Any]) -> None:
    assert problems(**settings) == {}


@pytest.mark.parametrize(
    ("settings", "field", "part"),
    [
        ({"classification": "secret"}, "classification", "internal, restricted"),
        ({"grant_types": ("password",)}, "grant_types[0]", "authorization_code"),
        ({"grant_types": ("refresh_token",) * 2}, "grant_types", "twice"),
        ({"grant_types": ("authorization_code",)}, "redirect_uris", "required"),
        ({"grant_types": ("client_credentials",)}, "grant_types", "RFC 6749, section 4.4"),
        ({"jwks": JWKS}, "jwks", "only for private_key_jwt"),
        ({"jwks_uri": "https://a.example/"}, "jwks_uri", "only for private_key_jwt"),
        ({**CONFIDENTIAL, "accepts_endpoint_audience": True}, "accepts_endpoint_audience", "only for"),
        (KEYED, "jwks", "exactly one"),
        ({**KEYED, "jwks": JWKS, "jwks_uri": "https://a.example/"}, "jwks", "exactly one"),
        ({**KEYED, "jwks_uri": "http://127.0.0.1/jwks"}, "jwks_uri", "https"),
        ({**KEYED, "jwks": "{}"}, "jwks", "1 to 16"),
        ({**KEYED, "jwks": "[1]"}, "jwks", "JSON object"),
        ({**KEYED, "jwks": json.dumps({"keys": [JWK] * 2})}, "jwks.keys[1]", "kid"),
        ({**KEYED, "jwks": json.dumps({"keys": [JWK] * 17})}, "jwks", "1 to 16"),
        ({**KEYED, "jwks": json.dumps({"keys": [{**JWK, "d": "AQ"}]})}, "jwks.keys[0]", "private"),
        ({**KEYED, "jwks": json.dumps({"keys": [{"kty": "oct", "k": "AQ"}]})}, "jwks.keys[0]", "kid"),
        ({**KEYED, "jwks": '{"keys":[],' + '"x":"' + "a" * 33_000 + '"}'}, "jwks", "32768"),
        (TLS, "tls_client_auth_san_uri", "exactly one"),
        (
            {**TLS, "tls_client_auth_san_uri": "spiffe://a/b", "tls_client_auth_san_dns": "a.example"},
            "tls_client_auth_san_uri",
            "exactly one",
        ),
        ({"tls_client_auth_san_dns": "a.example"}, "tls_client_auth_san_dns", "only for tls_client_auth"),
        ({**TLS, "tls_client_auth_san_dns": "*.example"}, "tls_client_auth_san_dns", "DNS name"),
        ({**TLS, "tls_client_auth_san_uri": "no uri"}, "tls_client_auth_san_uri", "absolute URI"),
        ({"redirect_uris": ("https://a.example/#x",)}, "redirect_uris[0]", "fragment"),
        (
            {"redirect_uris": tuple(f"https://a.example/{n}" for n in range(MAX_REDIRECT_URIS + 1))},
            "redirect_uris",
            "32",
        ),
        ({"redirect_uris": ("https://a.example/" + "a" * 2048,)}, "redirect_uris[0]", "2048"),
        ({"post_logout_redirect_uris": ("myapp:/x",)}, "post_logout_redirect_uris[0]", "dot"),
        ({"allowed_origins": ("https://a.example/",)}, "allowed_origins[0]", "path"),
        ({"backchannel_logout_uri": "com.example.app:/x"}, "backchannel_logout_uri", "https"),
        ({"sector_identifier_uri": "http://[::1]/s"}, "sector_identifier_uri", "https"),
        ({"scopes": ("a b",)}, "scopes[0]", "characters"),
        ({"audiences": ("a", "a")}, "audiences", "twice"),
        ({"client_name": "a" * 257}, "client_name", "256"),
        (
            {"dpop_bound_access_tokens": True, "tls_client_certificate_bound_access_tokens": True},
            "tls_client_certificate_bound_access_tokens",
            "together with dpop_bound_access_tokens",
        ),
    ],
)
def test_setting_that_breaks_a_rule_is_named(settings: dict[str, Any], field: str, part: str) -> None:
    found = problems(**settings)
    assert list(found) == [field]
    assert part in found[field]


@pytest.mark.parametrize(
    ("client_id", "accepted"),
    [
        ("web", True),
        ("https://a.example/b", True),
        ("", False),
        ("a b", False),
        ("é", False),
        ("a" * 257, False),
    ],
)
def test_client_id_has_visible_ascii_characters(client_id: str, accepted: bool) -> None:  # noqa: FBT001
    checks = Checks()
    check_client_id(checks, client_id)
    assert (violations(checks) == {}) is accepted
