"""openid-client, unmodified, with tokens that are bound to its key by DPoP (RFC 9449), nonces included."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from tests.e2e.browser_node import BrowserNode, log_in
from tests.e2e.conformance import assert_conformant
from tests.e2e.oauth import CALLBACK, Client, ask, claims_of, private_key, register

PROGRAM = "openid_client.mjs"
SCOPE = "openid read"


@pytest.fixture(scope="module", params=["false", "true"], ids=["no-nonces", "nonces"])
def node(request: pytest.FixtureRequest) -> Iterator[BrowserNode]:
    """A node, without nonces and with them."""
    with BrowserNode(env={"TOKEN_SERVICE_POLICY__INTERNAL__DPOP_NONCES": request.param}) as made:
        made.demands_nonces = request.param == "true"  # type: ignore[attr-defined]  # for the test only
        yield made


@pytest.fixture(scope="module")
def clients(node: BrowserNode) -> Mapping[str, Client]:
    fields: dict[str, Any] = {
        "grant_types": ["authorization_code", "refresh_token", "client_credentials"],
        "redirect_uris": [CALLBACK],
        "scopes": ["openid", "read"],
        "first_party": True,
        "dpop_bound_access_tokens": True,
    }
    made = [
        register(node, "web", "client_secret_basic", **fields),
        register(node, "bank", "private_key_jwt", algorithm="ES256", **fields),
        register(node, "spa", "none", **{**fields, "grant_types": ["authorization_code", "refresh_token"]}),
    ]
    return {client.method: client for client in made}


def refusals(wire: Any) -> list[str]:
    """Return the paths of refused requests."""
    return [each["path"] for each in wire if each["status"] >= 400]


@pytest.mark.parametrize("method", ["client_secret_basic", "private_key_jwt"])
def test_client_credentials_with_a_key(node: BrowserNode, clients: Mapping[str, Client], method: str) -> None:
    key = private_key("ES256")
    call = {"call": "client_credentials", "parameters": {"scope": "read"}}
    answers = ask(PROGRAM, node, clients[method], call, call, dpop=key)
    assert_conformant(answers.wire)
    bound = [claims_of(node, answers.ok(index)["access_token"])["cnf"]["jkt"] for index in (0, 1)]
    assert bound[0] == bound[1]
    assert answers.ok()["token_type"] == "dpop"
    # The client learns the nonce from the first refusal, and has it for the second request.
    assert refusals(answers.wire) == (["/token"] if node.demands_nonces else [])  # type: ignore[attr-defined]


@pytest.mark.parametrize(("method", "push"), [("client_secret_basic", False), ("none", True)])
def test_code_flow_refresh_and_userinfo_with_a_key(
    node: BrowserNode, clients: Mapping[str, Client], method: str, *, push: bool
) -> None:
    client, key, thief = clients[method], private_key("ES256"), private_key("ES256")
    parameters = {"redirect_uri": CALLBACK, "scope": SCOPE}
    asked = ask(
        PROGRAM, node, client, {"call": "authorize", "parameters": parameters, "push": push}, dpop=key
    )
    assert_conformant(asked.wire)
    begun = asked.ok()
    with node.browser() as browser:
        location = log_in(browser, begun["url"], CALLBACK)
    kept = {name: begun[name] for name in ("state", "nonce", "verifier")}
    exchange = {"call": "code", "location": location, **kept}
    if push:  # the code is bound to the key of the pushed request
        stolen = ask(PROGRAM, node, client, exchange, dpop=thief)
        assert stolen.refused()["error"] == "invalid_grant"
    granted = ask(PROGRAM, node, client, exchange, dpop=key)
    assert_conformant(granted.wire)
    tokens = granted.ok()
    jkt = claims_of(node, tokens["access_token"])["cnf"]["jkt"]
    refresh = {"call": "refresh", "token": tokens["refresh_token"]}
    assert ask(PROGRAM, node, client, refresh, dpop=thief).refused()["error"] == "invalid_grant"
    refreshed = ask(PROGRAM, node, client, refresh, dpop=key).ok()
    assert claims_of(node, refreshed["access_token"])["cnf"] == {"jkt": jkt}
    userinfo = {"call": "userinfo", "token": refreshed["access_token"], "subject": "alice"}
    assert ask(PROGRAM, node, client, userinfo, dpop=key).ok()["sub"] == "alice"
    assert ask(PROGRAM, node, client, userinfo).refused()["status"] == 401
    assert ask(PROGRAM, node, client, userinfo, dpop=thief).refused()["status"] == 401
