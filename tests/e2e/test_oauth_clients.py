"""openid-client and oauth4webapi, unmodified, at the token endpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping

import httpx
import pytest

from tests.e2e.conformance import assert_conformant
from tests.e2e.oauth import (
    API,
    CALLBACK,
    STATE,
    Client,
    ask,
    claims_of,
    code_for,
    refresh_token_of,
    register,
)
from tests.integration.oauth.node import OAuthNode

OTHER_API = "https://reports.example"

both_programs = pytest.mark.parametrize("program", ["openid_client.mjs", "oauth4webapi.mjs"])


@pytest.fixture(scope="module")
def clients(service: OAuthNode) -> Mapping[str, Client]:
    """The registered clients by id."""
    grants = ["client_credentials", "refresh_token"]
    made = [
        register(service, "basic", "client_secret_basic", grant_types=grants),
        register(service, "page", "none", grant_types=["refresh_token"]),
        register(
            service,
            "two-apis",
            "client_secret_basic",
            grant_types=["client_credentials"],
            audiences=[API, OTHER_API],
        ),
        *(
            register(
                service,
                name,
                method,
                grant_types=["authorization_code", "refresh_token"],
                redirect_uris=[CALLBACK],
                scopes=["openid", "read"],
            )
            for name, method in (("app", "client_secret_basic"), ("spa", "none"))
        ),
        *(
            register(service, algorithm, "private_key_jwt", grant_types=grants, algorithm=algorithm)
            for algorithm in ("ES256", "RS256", "EdDSA")
        ),
    ]
    return {client.client_id: client for client in made}


@both_programs
@pytest.mark.parametrize("algorithm", ["oidc", "oauth2"])
def test_discovery_document_is_accepted_at_either_place(
    service: OAuthNode, clients: Mapping[str, Client], program: str, algorithm: str
) -> None:
    answers = ask(program, service, clients["basic"], {"call": "metadata"}, algorithm=algorithm)
    found = answers.ok()
    assert found["issuer"] == service.issuer
    assert found["token_endpoint"] == f"{service.issuer}/token"
    assert found["jwks_uri"] == f"{service.issuer}/.well-known/jwks.json"
    assert_conformant(answers.wire)
    (document,) = answers.wire
    name = "openid-configuration" if algorithm == "oidc" else "oauth-authorization-server"
    assert document["path"] == f"/.well-known/{name}"


def test_both_discovery_documents_are_the_same_and_name_only_what_exists(service: OAuthNode) -> None:
    with httpx.Client(base_url=service.http_url, trust_env=False, timeout=30) as http:
        first, second = (
            http.get(f"/.well-known/{name}").json()
            for name in ("openid-configuration", "oauth-authorization-server")
        )
        assert first == second
        urls = {name: url for name, url in first.items() if name.endswith(("_endpoint", "_uri"))}
        assert {"token_endpoint", "jwks_uri"} <= urls.keys()
        for name, url in urls.items():
            answer = http.get(url) if name == "jwks_uri" else http.post(url)
            assert answer.status_code in {200, 400, 401}, (name, answer)


@both_programs
@pytest.mark.parametrize(
    ("client_id", "method"),
    [
        ("basic", "client_secret_basic"),
        ("basic", "client_secret_post"),
        ("ES256", "private_key_jwt"),
        ("RS256", "private_key_jwt"),
        ("EdDSA", "private_key_jwt"),
    ],
)
def test_client_credentials_give_a_token_for_the_client(
    service: OAuthNode, clients: Mapping[str, Client], program: str, client_id: str, method: str
) -> None:
    call = {"call": "client_credentials", "parameters": {"scope": "read"}}
    answers = ask(program, service, clients[client_id], call, method=method)
    issued = answers.ok()
    assert (issued["token_type"], issued["scope"]) == ("bearer", "read")
    assert not {"refresh_token", "id_token"} & issued.keys()
    claims = claims_of(service, issued["access_token"])
    assert (claims["iss"], claims["sub"], claims["client_id"]) == (service.issuer, client_id, client_id)
    assert (claims["aud"], claims["scope"]) == (API, "read")
    assert_conformant(answers.wire)


@both_programs
def test_resource_chooses_the_audience(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    answers = ask(
        program,
        service,
        clients["two-apis"],
        {"call": "client_credentials", "parameters": {"resource": OTHER_API}},
        {"call": "client_credentials", "parameters": {}},
        {"call": "client_credentials", "parameters": {"resource": "https://elsewhere.example"}},
    )
    assert claims_of(service, answers.ok()["access_token"])["aud"] == OTHER_API
    for refused in (answers.refused(1), answers.refused(2)):
        assert (refused["error"], refused["status"]) == ("invalid_target", 400)
    assert_conformant(answers.wire)


@both_programs
@pytest.mark.parametrize("client_id", ["basic", "page", "ES256"])
def test_refresh_token_is_replaced_by_its_successor(
    service: OAuthNode, clients: Mapping[str, Client], program: str, client_id: str
) -> None:
    first = refresh_token_of(service, client_id)
    answers = ask(program, service, clients[client_id], {"call": "refresh", "token": first, "parameters": {}})
    issued = answers.ok()
    second = issued["refresh_token"]
    assert second != first
    assert issued["refresh_token_timeout"] > issued["expires_in"]
    assert issued["authorization_expires_in"] >= issued["refresh_token_timeout"]
    claims = claims_of(service, issued["access_token"])
    assert (claims["sub"], claims["client_id"], claims["scope"]) == ("alice", client_id, "read write")
    assert_conformant(answers.wire)

    narrowed = ask(
        program,
        service,
        clients[client_id],
        {"call": "refresh", "token": second, "parameters": {"scope": "read"}},
    )
    assert narrowed.ok()["scope"] == "read"
    assert_conformant(narrowed.wire)


@both_programs
@pytest.mark.parametrize("client_id", ["app", "spa"])
def test_code_of_a_login_service_becomes_tokens_once(
    service: OAuthNode, clients: Mapping[str, Client], program: str, client_id: str
) -> None:
    verifier = "v" * 43
    location = code_for(service, clients[client_id], verifier, nonce="the-nonce")
    call = {"call": "code", "location": location, "nonce": "the-nonce", "state": STATE, "verifier": verifier}
    answers = ask(program, service, clients[client_id], call, call)
    issued = answers.ok(0)  # with an ID token whose issuer, audience, nonce and times the program has checked
    assert {"id_token", "refresh_token", "access_token"} <= issued.keys()
    assert claims_of(service, issued["access_token"])["sub"] == "alice"
    assert answers.refused(1)["error"] == "invalid_grant"
    assert_conformant(answers.wire)
    # The second use of a code revokes the session of the first one.
    again = {"call": "refresh", "token": issued["refresh_token"], "parameters": {}}
    assert ask(program, service, clients[client_id], again).refused()["error"] == "invalid_grant"


@both_programs
def test_code_needs_the_verifier_of_its_client(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    location = code_for(service, clients["app"], "v" * 43)
    call = {"call": "code", "location": location, "state": STATE, "verifier": "w" * 43}
    answers = ask(program, service, clients["app"], call)
    assert answers.refused()["error"] == "invalid_grant"
    stolen = ask(program, service, clients["spa"], {**call, "verifier": "v" * 43})
    assert stolen.refused()["error"] == "invalid_grant"
    assert_conformant([*answers.wire, *stolen.wire])


@both_programs
def test_refresh_token_of_another_client_is_an_invalid_grant(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    token = refresh_token_of(service, "page")
    answers = ask(
        program,
        service,
        clients["basic"],
        {"call": "refresh", "token": token, "parameters": {}},
        {"call": "refresh", "token": "not-a-token", "parameters": {}},
    )
    for index in (0, 1):
        refused = answers.refused(index)
        assert (refused["error"], refused["status"]) == ("invalid_grant", 400)
    assert_conformant(answers.wire)


@both_programs
def test_errors_have_the_codes_of_rfc_6749(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    answers = ask(
        program,
        service,
        clients["basic"],
        {"call": "client_credentials", "parameters": {"scope": "admin"}},
        {"call": "grant", "grant_type": "urn:example:unknown", "parameters": {}},
        {"call": "grant", "grant_type": "password", "parameters": {"username": "a", "password": "b"}},
        {"call": "grant", "grant_type": "refresh_token", "parameters": {}},
    )
    found = [(answers.refused(index)["error"], answers.refused(index)["status"]) for index in range(4)]
    assert found == [
        ("invalid_scope", 400),
        ("unsupported_grant_type", 400),
        ("unsupported_grant_type", 400),
        ("invalid_request", 400),
    ]
    assert_conformant(answers.wire)
    page = ask(program, service, clients["page"], {"call": "client_credentials", "parameters": {}})
    assert page.refused()["error"] == "unauthorized_client"
    assert_conformant(page.wire)


@both_programs
def test_wrong_secret_is_challenged(service: OAuthNode, clients: Mapping[str, Client], program: str) -> None:
    wrong = Client("two-apis", "client_secret_basic", "wrong")
    answers = ask(program, service, wrong, {"call": "client_credentials", "parameters": {}})
    # Both libraries refuse to read the body of an answer with a challenge.
    (challenge,) = answers.refused()["challenges"]
    assert challenge["scheme"] == "basic"
    refusal = json.loads(answers.wire[-1]["body"])
    assert (answers.wire[-1]["status"], refusal["error"]) == (401, "invalid_client")
    assert_conformant(answers.wire)


def test_client_assertion_is_accepted_once(service: OAuthNode, clients: Mapping[str, Client]) -> None:
    call = {"call": "client_credentials", "parameters": {}}
    answers = ask(
        "openid_client.mjs", service, clients["ES256"], call, call, claims={"jti": "one and the same"}
    )
    assert answers.ok(0)["access_token"]
    assert "refused" in answers.results[1]
    assert json.loads(answers.wire[-1]["body"])["error"] == "invalid_client"
    assert_conformant(answers.wire)


@pytest.mark.parametrize("audience", [["{issuer}"], "{issuer}/token", "https://elsewhere.example"])
def test_client_assertion_must_name_the_issuer_alone(
    service: OAuthNode, clients: Mapping[str, Client], audience: str | list[str]
) -> None:
    text = json.loads(json.dumps(audience).replace("{issuer}", service.issuer))
    call = {"call": "client_credentials", "parameters": {}}
    answers = ask("openid_client.mjs", service, clients["ES256"], call, claims={"aud": text})
    assert "refused" in answers.results[0]
    assert json.loads(answers.wire[-1]["body"])["error"] == "invalid_client"
