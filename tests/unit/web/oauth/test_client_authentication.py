"""A request identifies its caller by exactly one proof, and the answers tell nothing about other clients."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import httpx
import pytest
from msgspec import structs
from starlette.requests import Request

from tests.unit.web.oauth.oauth_app import ADDRESS, OAuthApp
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.client_authentication import FAILURE_WINDOW, MAX_FAILURES
from token_service.core.access.credentials import MAX_CLIENT_SECRET
from token_service.core.clients.client import CLIENT_CREDENTIALS, REFRESH_TOKEN
from token_service.core.limits import MAX_CLIENT_ID
from token_service.core.policies.rights import Permission
from token_service.web.oauth.parameters import Parameters
from token_service.web.peer import Peers

_REFUSED = "the client authentication failed"


def request_with(*authorizations: str) -> Request:
    headers = [(b"authorization", value.encode()) for value in authorizations]
    request = Request(
        {
            "type": "http",
            "scheme": "https",
            "method": "POST",
            "path": "/token",
            "headers": headers,
            "client": (ADDRESS, 1),
        }
    )
    Peers().admit(request)
    return request


def parameters_of(**values: str) -> Parameters:
    return Parameters({name: (value,) for name, value in values.items()})


async def clients(app: OAuthApp) -> None:
    """Register one client of each method, with the right to administer in their records."""
    await app.register("secret", Permission.ADMIN_WRITE)
    await app.register_assertion_client("signed", Permission.ADMIN_WRITE)
    await app.register_public("public")


async def proofs(app: OAuthApp) -> dict[str, dict[str, Any]]:
    """Return each way to prove a client, as keywords of `OAuthApp.post`."""
    return {
        "basic": {"headers": app.basic("secret")},
        "post": {"parameters": {"client_id": "secret", "client_secret": app.secrets["secret"]}},
        "assertion": {"parameters": app.assertion("signed")},
        "bearer": {
            "headers": {"Authorization": f"Bearer {(await app.token('secret')).json()['access_token']}"}
        },
    }


async def ask(app: OAuthApp, *ways: dict[str, Any], **parameters: str) -> httpx.Response:
    form: dict[str, Any] = {"grant_type": CLIENT_CREDENTIALS, **parameters}
    headers: list[tuple[str, str]] = []
    for way in ways:
        form |= way.get("parameters", {})
        headers += way.get("headers", {}).items()
    return await app.http.post("/token", data=form, headers=headers)


# --- One proof -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["basic", "post", "assertion"])
async def test_client_with_a_proof_gets_a_token(app: OAuthApp, way: str) -> None:
    await clients(app)
    answer = await ask(app, (await proofs(app))[way])
    assert answer.status_code == 200, answer.text


@pytest.mark.parametrize(
    ("values", "proof", "name"),
    [
        ({"client_id": "public"}, Proof.CLIENT_ID, "public"),
        ({"client_id": "public", "client_secret": ""}, Proof.CLIENT_ID, "public"),
    ],
)
async def test_public_client_names_itself(
    app: OAuthApp, values: dict[str, str], proof: Proof, name: str
) -> None:
    await clients(app)
    caller = await app.callers.client(request_with(), parameters_of(**values))
    assert (caller.proof, caller.client_id) == (proof, name)


async def test_public_client_never_has_the_rights_of_its_record(app: OAuthApp) -> None:
    await app.register_public("public")
    stored = await app.node.stores.clients.get("public")
    assert stored is not None
    await app.register("other", Permission.ADMIN_WRITE, Permission.VALIDATE)
    rich = app.node.clients.get("other")
    assert rich is not None
    # No administration can save this record. The rule must hold even for a damaged one.
    app.node.clients._clients["public"] = structs.replace(stored, rights=rich.rights)
    caller = await app.callers.client(request_with(), parameters_of(client_id="public"))
    assert caller.permissions == {Permission.REFRESH, Permission.REVOKE}
    assert not caller.rights.cover_client(Permission.REVOKE, "other")
    assert app.authenticator.rights(caller).permissions == caller.permissions


async def test_bearer_token_identifies_a_caller_but_no_client(app: OAuthApp) -> None:
    await clients(app)
    token = (await app.token("secret")).json()["access_token"]
    caller: Caller = await app.callers.caller(request_with(f"Bearer {token}"), parameters_of())
    assert (caller.proof, caller.client_id) == (Proof.ACCESS_TOKEN, "secret")
    answer = await ask(app, {"headers": {"Authorization": f"Bearer {token}"}})
    assert (answer.status_code, answer.headers["www-authenticate"].split()[0]) == (401, "Bearer")


async def test_credentials_of_basic_are_form_encoded(app: OAuthApp) -> None:
    await app.register("app:1+2%")
    assert (await app.token("app:1+2%")).status_code == 200


# --- Two proofs ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("ways", [*combinations(["basic", "post", "assertion", "bearer"], 2)], ids="+".join)
async def test_two_proofs_are_refused(app: OAuthApp, ways: tuple[str, str]) -> None:
    await clients(app)
    known = await proofs(app)
    answer = await ask(app, *(known[way] for way in ways))
    assert (answer.status_code, answer.json()["error"]) in {(401, "invalid_client"), (401, "invalid_token")}
    assert answer.json()["error_description"].startswith("the call has more than one proof of its caller")


async def test_same_credentials_twice_are_two_proofs(app: OAuthApp) -> None:
    await clients(app)
    basic = {"headers": app.basic("secret")}
    answer = await ask(app, basic, basic)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


@pytest.mark.parametrize("way", ["basic", "post", "assertion"])
async def test_client_id_beside_a_proof_must_be_that_of_the_proof(app: OAuthApp, way: str) -> None:
    await clients(app)
    known = (await proofs(app))[way]
    same = "signed" if way == "assertion" else "secret"
    if way != "post":  # there client_id is a part of the proof
        answer = await ask(app, known, client_id="public")
        assert (answer.status_code, answer.json()["error_description"]) == (
            401,
            "client_id names another client than the one that is authenticated",
        )
        known = (await proofs(app))[way]
    assert (await ask(app, known, client_id=same)).status_code == 200


# --- Wrong proofs --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "case",
    [
        {"parameters": {"client_id": "unknown"}},
        {"parameters": {"client_id": "unknown", "client_secret": "tscs_x"}},
        {"parameters": {"client_id": "secret"}},  # a confidential client that pretends to be public
        {"parameters": {"client_id": "signed"}},
        {"parameters": {"client_id": "secret", "client_secret": "wrong"}},
        {"parameters": {"client_id": "signed", "client_secret": "tscs_x"}},
        {"parameters": {"client_id": "public", "client_secret": "tscs_x"}},  # a public one that has a secret
        {"parameters": {"client_id": "secret\0"}},
        {"parameters": {"client_id": "sécret"}},
        {"assertion": {"sub": "public", "iss": "public"}},
        {"assertion": {"sub": "secret", "iss": "secret"}},
        {"assertion": {"sub": "unknown", "iss": "unknown"}},
        {"assertion": {"iss": "other"}},
        {"assertion": {"aud": "https://issuer.example.evil"}},
        {"assertion": {"aud": ["https://issuer.example"]}},
        {"assertion": {"jti": None}},
        {"assertion": {"exp": 1}},
    ],
    ids=repr,
)
async def test_wrong_proofs_get_one_answer(app: OAuthApp, case: dict[str, Any]) -> None:
    await clients(app)
    way = {"parameters": app.assertion("signed", **case["assertion"])} if "assertion" in case else case
    answer = await ask(app, way)
    assert (answer.status_code, answer.json()) == (
        401,
        {"error": "invalid_client", "error_description": _REFUSED, "reason": "CALLER_UNAUTHENTICATED"},
    )
    assert answer.headers["www-authenticate"].startswith("Basic ")


@pytest.mark.parametrize(
    ("values", "authorization"),
    [
        ({}, None),
        ({"client_secret": "x"}, None),
        ({"client_id": "x" * (MAX_CLIENT_ID + 1)}, None),
        ({"client_id": "x", "client_secret": "y" * (MAX_CLIENT_SECRET + 1)}, None),
        ({"client_assertion": "x"}, None),
        ({"client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"}, None),
        ({"client_assertion_type": "saml", "client_assertion": "x"}, None),
        ({}, "Digest x"),
        ({}, "Basic"),
        ({}, "Basic !"),
        ({}, "Basic YQ=="),  # a
        ({}, "Basic OmI="),  # :b
        ({}, "Basic YTo="),  # a:
        ({}, "Basic JUZGOmI="),  # %FF:b
        ({}, "Bearer"),
    ],
)
async def test_unreadable_proof_is_refused(
    app: OAuthApp, values: dict[str, str], authorization: str | None
) -> None:
    headers = {} if authorization is None else {"Authorization": authorization}
    answer = await app.post("/token", {"grant_type": CLIENT_CREDENTIALS, **values}, headers=headers)
    assert answer.status_code == 401
    assert answer.json()["error"] == "invalid_client"


async def test_assertion_is_used_once(app: OAuthApp) -> None:
    await clients(app)
    assertion = {"parameters": app.assertion("signed")}
    assert (await ask(app, assertion)).status_code == 200
    assert (await ask(app, assertion)).json()["error"] == "invalid_client"


async def test_disabled_client_is_refused_at_once(app: OAuthApp) -> None:
    await clients(app)
    await app.node.core.client_administration.disable(Caller.system(), "secret", app.clock.now())
    assert (await app.token("secret")).json()["error"] == "invalid_client"


async def test_failures_of_an_address_slow_down_its_attempts(app: OAuthApp) -> None:
    await clients(app)
    wrong = {"parameters": {"client_id": "secret", "client_secret": "wrong"}}
    for _ in range(MAX_FAILURES):
        assert (await ask(app, wrong)).status_code == 401
    slowed = await ask(app, {"headers": app.basic("secret")})
    assert (slowed.status_code, slowed.json()["error"]) == (429, "temporarily_unavailable")
    assert int(slowed.headers["retry-after"]) <= FAILURE_WINDOW
    app.clock.elapsed += FAILURE_WINDOW
    assert (await ask(app, {"headers": app.basic("secret")})).status_code == 200


async def test_public_client_gets_no_client_credentials(app: OAuthApp) -> None:
    await app.register_public("public", grant_types=(REFRESH_TOKEN,))
    answer = await app.post("/token", {"grant_type": CLIENT_CREDENTIALS, "client_id": "public"})
    assert (answer.status_code, answer.json()["error"]) == (400, "unauthorized_client")
