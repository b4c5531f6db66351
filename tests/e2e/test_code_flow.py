"""openid-client, unmodified, through the authorization code flow with a login service of one's own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import pytest
from google.protobuf import timestamp_pb2

from tests.e2e.browser_node import BrowserNode, hidden, log_in, log_in_to_page
from tests.e2e.conformance import assert_conformant
from tests.e2e.oauth import CALLBACK, Answers, Client, ask, claims_of, register
from token_service.v1 import token_pb2

PROGRAM = "openid_client.mjs"
SCOPE = "openid profile read"
GOODBYE = "https://app.example/goodbye"


@pytest.fixture(scope="module")
def clients(node: BrowserNode) -> Mapping[str, Client]:
    """Clients of each kind of proof, by their method."""
    fields: dict[str, Any] = {
        "grant_types": ["authorization_code", "refresh_token"],
        "redirect_uris": [CALLBACK],
        "post_logout_redirect_uris": [GOODBYE],
        "scopes": ["openid", "profile", "read"],
        "first_party": True,
    }
    made = [
        register(node, "web", "client_secret_basic", client_name="Web <Shop>", **fields),
        register(node, "spa", "none", **fields),
        register(node, "bank", "private_key_jwt", algorithm="ES256", **fields),
    ]
    return {client.method: client for client in made}


def authorize(node: BrowserNode, client: Client, *, push: bool = False, **parameters: Any) -> dict[str, Any]:
    """Return what openid-client begins a flow with: the URL, and the state, nonce and verifier that it keeps."""
    asked = {"redirect_uri": CALLBACK, "scope": SCOPE, **parameters}
    answers = ask(PROGRAM, node, client, {"call": "authorize", "parameters": asked, "push": push})
    assert_conformant(answers.wire)
    return answers.ok()


def finish(
    node: BrowserNode, client: Client, begun: Mapping[str, Any], location: str, **more: Any
) -> Answers:
    """Give openid-client the answer that the browser brought, and let it exchange the code."""
    kept = {name: begun[name] for name in ("state", "nonce", "verifier")}
    return ask(PROGRAM, node, client, {"call": "code", "location": location, **kept, **more})


@pytest.mark.parametrize("push", [False, True], ids=["query", "pushed"])
@pytest.mark.parametrize("method", ["client_secret_basic", "none", "private_key_jwt"])
def test_code_flow_from_discovery_to_refreshed_tokens(
    node: BrowserNode, clients: Mapping[str, Client], method: str, *, push: bool
) -> None:
    client = clients[method]
    begun = authorize(node, client, push=push)
    assert ("request_uri" in begun["url"]) == push
    with node.browser() as browser:
        location = log_in(browser, begun["url"], CALLBACK)
    tokens = finish(node, client, begun, location)
    assert_conformant(tokens.wire)
    granted = tokens.ok()
    claims = claims_of(node, granted["access_token"])
    assert (claims["sub"], claims["client_id"], claims["scope"]) == ("alice", client.client_id, SCOPE)
    identity = claims_of(node, granted["id_token"], "JWT")
    assert (identity["sub"], identity["nonce"], identity["aud"]) == (
        "alice",
        begun["nonce"],
        client.client_id,
    )
    refreshed = ask(PROGRAM, node, client, {"call": "refresh", "token": granted["refresh_token"]}).ok()
    assert claims_of(node, refreshed["access_token"])["sid"] == claims["sid"]


def test_answer_in_a_posted_form_is_accepted(node: BrowserNode, clients: Mapping[str, Client]) -> None:
    client = clients["client_secret_basic"]
    begun = authorize(node, client, response_mode="form_post")
    with node.browser() as browser:
        page = log_in_to_page(browser, begun["url"])
    form = hidden(page.text)
    assert form.keys() == {"code", "state", "iss"}
    assert f'action="{CALLBACK}"' in page.text
    assert finish(node, client, begun, CALLBACK, form=form).ok()["id_token"]


@pytest.mark.parametrize(
    ("parameters", "answer", "error"),
    [
        ({}, "reject", "access_denied"),
        ({"prompt": "none"}, "accept", "login_required"),
        ({"acr_values": "urn:mfa"}, "accept", "unmet_authentication_requirements"),
        ({"max_age": "60"}, "accept", "login_required"),
        ({"scope": "openid unknown"}, "accept", "invalid_scope"),
    ],
)
def test_refused_login_reaches_the_application_as_its_error(
    node: BrowserNode, clients: Mapping[str, Client], parameters: Mapping[str, str], answer: str, error: str
) -> None:
    client = clients["client_secret_basic"]
    begun = authorize(node, client, **dict[str, Any](parameters))
    with node.browser() as browser:
        location = log_in(browser, begun["url"], CALLBACK, answer=answer)
    refused = finish(node, client, begun, location).refused()
    assert (refused["name"], refused["error"]) == ("AuthorizationResponseError", error)


def test_application_refuses_the_answer_of_another_issuer_or_browser(
    node: BrowserNode, clients: Mapping[str, Client]
) -> None:
    client = clients["client_secret_basic"]
    begun = authorize(node, client)
    with node.browser() as browser:
        location = log_in(browser, begun["url"], CALLBACK)
    for changes in (
        {"location": location.replace("iss=https%3A%2F%2Flocalhost", "iss=https%3A%2F%2Fevil.example")},
        {"state": "the-state-of-another-browser"},
    ):
        call = {"location": location, **begun, **changes}
        assert (
            ask(PROGRAM, node, client, {"call": "code", **call}).refused()["code"] == "OAUTH_INVALID_RESPONSE"
        )
    # A nonce or a verifier of another flow is refused after the exchange, by the application and by the service.
    refused = finish(node, client, {**begun, "verifier": "v" * 43}, location).refused()
    assert (refused["status"], refused["error"]) == (400, "invalid_grant")


def test_second_use_of_a_code_ends_the_session(node: BrowserNode, clients: Mapping[str, Client]) -> None:
    client = clients["client_secret_basic"]
    begun = authorize(node, client)
    with node.browser() as browser:
        location = log_in(browser, begun["url"], CALLBACK)
    granted = finish(node, client, begun, location).ok()
    refused = finish(node, client, begun, location).refused()
    assert (refused["status"], refused["error"]) == (400, "invalid_grant")
    refresh = {"call": "refresh", "token": granted["refresh_token"]}
    assert ask(PROGRAM, node, client, refresh).refused()["error"] == "invalid_grant"


def test_application_reads_the_claims_of_the_user_and_logs_the_user_out(
    node: BrowserNode, clients: Mapping[str, Client]
) -> None:
    client = clients["none"]
    node.login.accepts = {"identity_claims": {"name": "Alice Example", "email": "a@b.example"}}
    begun = authorize(node, client)
    with node.browser() as browser:
        location = log_in(browser, begun["url"], CALLBACK)
        node.login.accepts = {}
        granted = finish(node, client, begun, location).ok()
        userinfo = {"call": "userinfo", "token": granted["access_token"], "subject": "alice"}
        asked = ask(PROGRAM, node, client, userinfo, {**userinfo, "subject": "bob"})
        assert_conformant(asked.wire)
        assert asked.ok(0) == {"sub": "alice", "name": "Alice Example"}  # the scope email was not granted
        assert asked.refused(1)["code"] == "OAUTH_JSON_ATTRIBUTE_COMPARISON_FAILED"
        leaving = {
            "id_token_hint": granted["id_token"],
            "post_logout_redirect_uri": GOODBYE,
            "state": "the-state-of-the-logout",
        }
        url = ask(PROGRAM, node, client, {"call": "logout", "parameters": leaving}).ok()
        assert log_in(browser, url, GOODBYE) == f"{GOODBYE}?state=the-state-of-the-logout"
    ended = ask(PROGRAM, node, client, userinfo, {"call": "refresh", "token": granted["refresh_token"]})
    assert (ended.refused(0)["status"], ended.refused(1)["error"]) == (401, "invalid_grant")


def test_step_up_raises_the_session_and_leaves_old_tokens_as_they_were(
    node: BrowserNode, clients: Mapping[str, Client]
) -> None:
    """RFC 9470: the API wants a stronger authentication, so the application asks for one."""
    client = clients["none"]

    def tokens(acr: str, **parameters: Any) -> Any:
        begun = authorize(node, client, **parameters)
        node.login.accepts = {
            "auth_context": token_pb2.AuthContext(
                acr=acr, amr=["pwd"], auth_time=timestamp_pb2.Timestamp(seconds=int(time.time()))
            )
        }
        with node.browser() as browser:
            location = log_in(browser, begun["url"], CALLBACK)
        node.login.accepts = {}
        return finish(node, client, begun, location, max_age=300).ok()

    before = tokens("urn:pwd", max_age="300")
    after = tokens("urn:mfa", max_age="300", acr_values="urn:mfa", id_token_hint=before["id_token"])
    old, new = (claims_of(node, each["access_token"]) for each in (before, after))
    assert (old["sid"], old["auth_ctx"]["acr"]) == (new["sid"], "urn:pwd")
    assert new["auth_ctx"]["acr"] == claims_of(node, after["id_token"], "JWT")["acr"] == "urn:mfa"
    assert "refresh_token" not in after  # the one of the session goes on
    refreshed = ask(PROGRAM, node, client, {"call": "refresh", "token": before["refresh_token"]}).ok()
    assert claims_of(node, refreshed["access_token"])["auth_ctx"]["acr"] == "urn:mfa"


def test_login_service_learns_the_name_and_the_wishes_of_the_application(
    node: BrowserNode, clients: Mapping[str, Client]
) -> None:
    client = clients["client_secret_basic"]
    begun = authorize(
        node, client, push=True, login_hint="bob@example", prompt="login consent", acr_values="a b"
    )
    with node.browser() as browser:
        response = browser.get(begun["url"])
        assert response.status_code == 303
        page = browser.get(response.headers["location"])
    assert "Log in to Web &lt;Shop&gt;" in page.text
    asked = node.login.requests[-1]
    assert (asked.client_id, asked.login_hint) == (client.client_id, "bob@example")
    assert (list(asked.prompts), list(asked.acr_values)) == (["login", "consent"], ["a", "b"])
