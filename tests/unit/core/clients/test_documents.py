"""The rules for the URLs and the content of client metadata documents."""

from __future__ import annotations

import json
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import example, given, strategies as st

from token_service.core.clients.client import AuthMethod, ClientState, SecurityProfile
from token_service.core.clients.documents import (
    DocumentRules,
    UnusableDocumentError,
    client_of_document,
    problem_of_document_url,
    problem_of_host_pattern,
)
from token_service.core.limits import MAX_CLIENT_ID
from token_service.tokens.jwk import public_jwk

URL = "https://app.example/client"
JWK = public_jwk(ec.generate_private_key(ec.SECP256R1()).public_key())
KEYED = {"token_endpoint_auth_method": "private_key_jwt", "jwks": {"keys": [JWK]}}


def document(**members: Any) -> bytes:
    return json.dumps({"client_id": URL, "redirect_uris": ["https://app.example/cb"], **members}).encode()


def described(body: bytes, rules: DocumentRules | None = None) -> Any:
    return client_of_document(URL, body, rules or DocumentRules(), 100.0)


@pytest.mark.parametrize(
    "url",
    [
        URL,
        "https://app.example/",
        "https://app.example:8443/client.json",
        "https://app.example/a/b?v=1",
        "https://app.example/..a/.b/c..",
        "https://app.example/%2Fa",
    ],
)
def test_url_that_keeps_the_rules_is_an_id(url: str) -> None:
    assert problem_of_document_url(url) is None


@pytest.mark.parametrize(
    "url",
    [
        "http://app.example/client",
        "HTTPS://app.example/client",
        "https://App.example/client",
        "https://app.example",
        "https://app.example?x=1",
        "https://app.example/client?",
        "https://app.example/client#",
        "https://app.example/client#a",
        "https://user@app.example/client",
        "https://user:pw@app.example/client",
        "https://@app.example/client",
        "https://app.example/./client",
        "https://app.example/a/../client",
        "https://app.example/a/..",
        "https://app.example/%2E%2E/client",
        "https://app.example/%2e/client",
        "https://app.example/.%2E/client",
        "https://app.example\\@internal.example/client",
        "https://app.example/cl ient",
        "https://app.example/client\n",
        "https://app.example:0/client",
        "https://app.example:99999/client",
        "https://app.example:/client",
        "https://app.example./client",
        "https://localhost/client",
        "https://intranet/client",
        "https://127.0.0.1/client",
        "https://93.184.216.34/client",
        "https://0x7f.1/client",
        "https://2130706433/client",
        "https://[::1]/client",
        "https:///client",
        "https://xn--é.example/client",
        "https://app.example/" + "a" * MAX_CLIENT_ID,
        "",
    ],
)
def test_url_that_breaks_a_rule_is_no_id(url: str) -> None:
    assert problem_of_document_url(url) is not None


@given(
    st.text(alphabet="htps:/.@#?%2eE[]\\app.example0127:; \t\n*", max_size=40).map(
        "https://a.example/".__add__
    )
)
@example("https://a.example/")
def test_accepted_urls_have_one_reading(url: str) -> None:
    if problem_of_document_url(url) is not None:
        return
    parts = urlsplit(url)
    assert parts.geturl() == url
    assert (parts.scheme, parts.hostname, parts.username, parts.fragment) == ("https", "a.example", None, "")
    assert "#" not in url
    assert not {".", ".."} & set(parts.path.lower().replace("%2e", ".").split("/"))


@given(st.text(max_size=30))
def test_no_text_without_the_scheme_is_an_id(text: str) -> None:
    assert problem_of_document_url(text) is not None or text.startswith("https://")


def test_public_client_has_the_members_of_its_document() -> None:
    client = described(
        document(
            client_name="MCP app",
            scope="read write",
            redirect_uris=["http://127.0.0.1/cb", "https://app.example/cb"],
            grant_types=["authorization_code", "refresh_token"],
            logo_uri="https://app.example/logo.png",
        ),
        DocumentRules(scopes=("write", "read", "other"), classification="public"),
    )
    assert (client.client_id, client.client_name, client.classification) == (URL, "MCP app", "public")
    assert client.token_endpoint_auth_method is AuthMethod.NONE
    assert client.scopes == ("write", "read")
    assert client.grant_types == ("authorization_code", "refresh_token")
    assert client.redirect_uris == ("http://127.0.0.1/cb", "https://app.example/cb")
    assert (client.state, client.create_time, client.secrets) == (ClientState.ACTIVE, 100.0, ())


def test_scopes_are_those_of_the_operator_unless_the_document_names_fewer() -> None:
    rules = DocumentRules(scopes=("read", "write"))
    assert described(document(), rules).scopes == ("read", "write")
    assert described(document(scope="write admin"), rules).scopes == ("write",)
    assert described(document(scope="admin"), rules).scopes == ()
    assert described(document(scope="read")).scopes == ()


def test_client_with_keys_authenticates_with_them() -> None:
    client = described(document(**KEYED))
    assert client.token_endpoint_auth_method is AuthMethod.PRIVATE_KEY_JWT
    assert json.loads(client.jwks) == {"keys": [JWK]}
    by_url = described(
        document(token_endpoint_auth_method="private_key_jwt", jwks_uri="https://app.example/jwks")
    )
    assert by_url.jwks_uri == "https://app.example/jwks"


def test_document_gives_no_rights_audiences_origins_or_classification() -> None:
    client = described(
        document(
            rights=[{"permission": "admin.write"}],
            audiences=["https://issuer.example"],
            audience=["https://issuer.example"],
            allowed_origins=["https://evil.example"],
            classification="restricted",
            backchannel_logout_uri="https://internal.example/",
            accepts_endpoint_audience=True,
            state="active",
        )
    )
    assert (client.rights, client.audiences, client.allowed_origins) == ((), (), ())
    assert (client.classification, client.backchannel_logout_uri) == ("", "")
    assert not client.accepts_endpoint_audience


def test_grant_types_and_redirect_uris_that_are_not_allowed_are_left_out() -> None:
    client = described(
        document(
            grant_types=[
                "client_credentials",
                "authorization_code",
                "urn:ietf:params:oauth:grant-type:jwt-bearer",
            ],
            redirect_uris=[
                "http://localhost/cb",
                "javascript:alert(1)",
                "https://app.example/*",
                "https://a.example/cb",
            ],
        )
    )
    assert client.grant_types == ("authorization_code",)
    assert client.redirect_uris == ("https://a.example/cb",)


@pytest.mark.parametrize(
    ("body", "cause"),
    [
        (b"", "JSON object"),
        (b"[]", "JSON object"),
        (b'{"client_id":"a","client_id":"b"}', "JSON object"),
        (document(client_id=URL + "/"), "exactly the URL"),
        (document(client_id="HTTPS://app.example/client"), "exactly the URL"),
        (document(client_id=[URL]), "exactly the URL"),
        (b"{}", "exactly the URL"),
        (document(client_secret="x"), "client_secret"),
        (document(client_secret=None), "client_secret"),
        (document(client_secret_expires_at=0), "client_secret_expires_at"),
        (document(token_endpoint_auth_method="client_secret_basic"), "none of none, private_key_jwt"),
        (document(token_endpoint_auth_method="client_secret_post"), "none of"),
        (document(token_endpoint_auth_method="client_secret_jwt"), "none of"),
        (document(token_endpoint_auth_method="tls_client_auth"), "none of"),
        (document(token_endpoint_auth_method=["none"]), "no text"),
        (document(token_endpoint_auth_method="private_key_jwt"), "exactly one"),
        (document(**KEYED, jwks_uri="https://app.example/jwks"), "exactly one"),
        (document(**{**KEYED, "jwks": {"keys": [{**JWK, "d": "AQ"}]}}), "private"),
        (
            document(**{**KEYED, "jwks": {"keys": [{"kty": "oct", "kid": "a", "alg": "HS256", "k": "AQ"}]}}),
            "jwks",
        ),
        (document(**{**KEYED, "jwks": "{}"}), "no JSON object"),
        (document(token_endpoint_auth_method="private_key_jwt", jwks_uri="http://127.0.0.1/k"), "https"),
        (document(jwks={"keys": [JWK]}), "only for private_key_jwt"),
        (document(redirect_uris=[]), "required"),
        (document(redirect_uris=["http://localhost/cb"]), "required"),
        (document(redirect_uris="https://app.example/cb"), "no list"),
        (document(redirect_uris=[f"https://app.example/{n}" for n in range(33)]), "more than 32"),
        (document(grant_types=[1]), "no list"),
        (document(client_name="a" * 257), "client_name"),
        (document(client_name="a\u202eb"), "client_name"),
        (document(scope=["read"]), "no text"),
        (document(subject_type="pairwise"), "pairwise"),
        (document(dpop_bound_access_tokens="yes"), "neither true nor false"),
        (document(require_pushed_authorization_requests=1), "neither true nor false"),
        (
            document(dpop_bound_access_tokens=True, tls_client_certificate_bound_access_tokens=True),
            "together with dpop_bound_access_tokens",
        ),
    ],
)
def test_document_that_breaks_a_rule_describes_no_client(body: bytes, cause: str) -> None:
    with pytest.raises(UnusableDocumentError, match=cause):
        described(body)


def test_client_may_ask_for_stricter_rules() -> None:
    plain = described(document(security_profile="fapi2"))
    assert not plain.dpop_bound_access_tokens
    assert not plain.require_pushed_authorization_requests
    assert plain.security_profile is SecurityProfile.NONE
    assert (
        described(document(), DocumentRules(security_profile=SecurityProfile.FAPI2)).security_profile
        == "fapi2"
    )
    strict = described(document(dpop_bound_access_tokens=True, require_pushed_authorization_requests=True))
    assert strict.dpop_bound_access_tokens
    assert strict.require_pushed_authorization_requests
    assert described(
        document(tls_client_certificate_bound_access_tokens=True)
    ).tls_client_certificate_bound_access_tokens


def test_keys_are_at_the_host_of_the_document_or_at_a_named_one() -> None:
    def with_keys(jwks_uri: str) -> bytes:
        return document(token_endpoint_auth_method="private_key_jwt", jwks_uri=jwks_uri)

    with pytest.raises(UnusableDocumentError, match="another host"):
        described(with_keys("https://b.example/k"))
    assert described(with_keys("https://b.example/k"), DocumentRules(hosts=("b.example",))).jwks_uri


def test_hosts_are_names_and_domains() -> None:
    rules = DocumentRules(hosts=("app.example", "*.corp.example"))
    allowed = ["https://app.example/c", "https://app.example:8443/c", "https://a.b.corp.example/c"]
    refused = [
        "https://corp.example/c",
        "https://xapp.example/c",
        "https://evilcorp.example/c",
        "https://b.example/c",
    ]
    assert [url for url in (*allowed, *refused) if rules.allow(url)] == allowed


@pytest.mark.parametrize(
    "pattern", ["*", "*.", "a.*", "https://a.example", "A.example", "", "*.*.example", "a/b"]
)
def test_other_patterns_of_hosts_are_refused(pattern: str) -> None:
    assert problem_of_host_pattern(pattern) is not None
