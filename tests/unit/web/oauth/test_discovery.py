"""The discovery document tells the truth: what it announces answers, and nothing else does."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import pytest

from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.app.edges import make_oauth_routes
from token_service.tokens.algorithms import Algorithm
from token_service.web.oauth.discovery import discovery_paths, issuer_path

ENDPOINTS = {
    "token_endpoint",
    "introspection_endpoint",
    "revocation_endpoint",
    "userinfo_endpoint",
    "end_session_endpoint",
}


async def document_of(app: OAuthApp, path: str = "/.well-known/openid-configuration") -> dict[str, Any]:
    answer = await app.http.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.headers["cache-control"] == "public, max-age=300"
    document: dict[str, Any] = answer.json()
    return document


@pytest.mark.parametrize(
    ("issuer", "paths"),
    [
        (
            "https://issuer.example",
            ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"),
        ),
        (
            "https://issuer.example/",
            ("/.well-known/openid-configuration", "/.well-known/oauth-authorization-server"),
        ),
        (
            "https://issuer.example/tenant/a",
            (
                "/tenant/a/.well-known/openid-configuration",  # OpenID Connect Discovery 1.0, section 4
                "/.well-known/oauth-authorization-server/tenant/a",  # RFC 8414, section 3.1
            ),
        ),
    ],
)
async def test_document_is_where_clients_look_for_it(issuer: str, paths: tuple[str, ...]) -> None:
    app = await OAuthApp.start(issuer=issuer)
    assert discovery_paths(issuer) == paths
    documents = [await document_of(app, path) for path in paths]
    assert documents[0] == documents[1]
    assert documents[0]["issuer"] == issuer
    await app.close()


@pytest.mark.parametrize("issuer", ["https://issuer.example", "https://issuer.example/tenant/a"])
async def test_every_announced_url_answers_and_no_other_endpoint_exists(issuer: str) -> None:
    app = await OAuthApp.start(issuer=issuer, algorithm=Algorithm.ES256)
    upstreams = app.node.core.oauth.login.upstreams
    upstreams.current = {"inhouse": upstreams.challenge("https://login.example/in")}
    document = await document_of(app, discovery_paths(issuer)[0])
    urls = {name: url for name, url in document.items() if name.endswith(("_endpoint", "_uri"))}
    assert ENDPOINTS | {"jwks_uri"} <= set(urls)
    assert all(url.startswith(f"{issuer}/") for url in urls.values())
    keys = await app.http.get(urls["jwks_uri"])
    assert (keys.status_code, keys.json()) == (200, {"keys": list(app.node.keyring.jwks)})
    endpoints = {urlsplit(url).path for name, url in urls.items() if name.endswith("_endpoint")}
    for endpoint in endpoints:
        answer = await app.http.post(endpoint)
        assert answer.status_code in {400, 401}
        page = endpoint.endswith(("/authorize", "/end_session"))
        assert answer.headers["content-type"] == ("text/html; charset=utf-8" if page else "application/json")
    posts = {
        route.path
        for route in make_oauth_routes(app.node.core, app.authenticator, app.edge)
        if "POST" in (route.methods or ())
    }
    # Identity providers are told of the one where they know this service as a client, users of the other by their device.
    path = issuer_path(issuer)
    # Receivers of security events find theirs in /.well-known/ssf-configuration, transmitters are told of theirs.
    posts = {post for post in posts if not post.startswith(f"{path}/ssf/")}
    assert posts == endpoints | {f"{path}/backchannel-logout/{{upstream}}", f"{path}/device"}
    await app.close()


async def test_members_are_what_the_service_does(app: OAuthApp) -> None:
    document = await document_of(app)
    await app.register("app")
    assert document["response_types_supported"] == []
    for grant_type in document["grant_types_supported"]:
        answer = await app.token("app", grant_type)
        assert answer.json().get("error") != "unsupported_grant_type"
    assert document["token_endpoint_auth_methods_supported"] == [
        "client_secret_basic",
        "client_secret_post",
        "private_key_jwt",
        "none",
    ]
    signing = document["token_endpoint_auth_signing_alg_values_supported"]
    assert not {"none", "HS256"} & set(signing)
    proofs = document["dpop_signing_alg_values_supported"]
    assert "ES256" in proofs
    assert not {"none", "HS256"} & set(proofs)
    assert (
        "tls_client_certificate_bound_access_tokens" not in document
    )  # no certificate reaches this application
    assert None not in document.values()


async def test_signing_algorithms_are_those_of_the_published_keys() -> None:
    app = await OAuthApp.start(algorithm=Algorithm.ES256)
    assert (await document_of(app))["id_token_signing_alg_values_supported"] == ["ES256"]
    await app.close()


async def test_issuer_that_is_no_url_has_no_oauth_endpoints() -> None:
    app = await OAuthApp.start(issuer="token-service")
    assert make_oauth_routes(app.node.core, app.authenticator, app.edge) == []
    assert (await app.http.get("/.well-known/openid-configuration")).status_code == 404
    assert (await app.http.post("/token")).status_code == 404
    await app.close()
