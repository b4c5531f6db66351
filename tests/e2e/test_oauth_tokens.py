"""openid-client, oauth4webapi and authlib: token exchange, introspection and revocation."""

from __future__ import annotations

import asyncio
import json
import warnings
from collections.abc import Mapping
from typing import Any

import httpx
import pytest
from google.protobuf import duration_pb2

from tests.e2e.conformance import assert_conformant
from tests.e2e.oauth import (
    API,
    TOKEN_EXCHANGE,
    TOKEN_TYPE,
    Client,
    ask,
    claims_of,
    refresh_token_of,
    register,
)
from tests.integration.calls import ACCESS, ID, STRONG, TIMEOUT, Api
from tests.integration.oauth.node import OAuthNode
from tests.support import node as nodejs
from token_service.v1 import (
    client_service_pb2 as pb,
    personal_access_token_service_pb2 as personal_pb,
    personal_access_token_service_pb2_grpc,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # authlib prefers a fork of httpx
    from authlib.integrations.httpx_client import OAuth2Client  # type: ignore[import-untyped]

INVENTORY = "https://inventory.example"
TRUST_DOMAIN = "https://trust.example"
PERSONAL_ACCESS_TOKEN = "urn:token-service:token-type:personal_access_token"

both_programs = pytest.mark.parametrize("program", ["openid_client.mjs", "oauth4webapi.mjs"])


@pytest.fixture(scope="module")
def clients(service: OAuthNode) -> Mapping[str, Client]:
    """The registered clients by id."""
    made = [
        register(
            service,
            "shop",
            "client_secret_basic",
            grant_types=["client_credentials", "refresh_token", TOKEN_EXCHANGE],
            audiences=[API, INVENTORY, TRUST_DOMAIN],
        ),
        register(
            service,
            "gateway",
            "client_secret_basic",
            grant_types=["client_credentials", TOKEN_EXCHANGE],
            audiences=[API],
            rights=[
                pb.Right(permission="validate"),
                pb.Right(permission="exchange", clients=["shop"], audiences=[INVENTORY]),
            ],
        ),
        register(service, "cli", "none", grant_types=[TOKEN_EXCHANGE]),
        register(service, "other", "private_key_jwt", algorithm="ES256", grant_types=["refresh_token"]),
    ]
    return {client.client_id: client for client in made}


def access_token_of(service: OAuthNode, **fields: Any) -> str:
    """Return an access token of alice for the client `shop`, with a session."""

    async def issue() -> str:
        async with Api(service.grpc_address) as api:
            return (await api.issue(client_id="shop", audience=[API, INVENTORY], **fields)).access_token

    return asyncio.run(issue())


def why(service: OAuthNode, token: str) -> str:
    """Return why ValidateToken refuses a token; empty if it is active."""

    async def validate() -> str:
        async with Api(service.grpc_address) as api:
            return await api.why(token, consistency=STRONG)

    return asyncio.run(validate())


def exchange(token: str, **parameters: str) -> dict[str, Any]:
    """Return a call that exchanges an access token."""
    return {
        "call": "grant",
        "grant_type": TOKEN_EXCHANGE,
        "parameters": {
            "subject_token": token,
            "subject_token_type": f"{TOKEN_TYPE}access_token",
            **parameters,
        },
    }


# --- Token exchange ---------------------------------------------------------------------------------------------------


@both_programs
def test_exchange_narrows_a_token(service: OAuthNode, clients: Mapping[str, Client], program: str) -> None:
    token = access_token_of(service)
    narrow = exchange(token, audience=INVENTORY, scope="read")
    wide = exchange(token, scope="read admin")
    answers = ask(program, service, clients["shop"], narrow, wide)
    issued = answers.ok()
    assert (issued["token_type"], issued["scope"]) == ("bearer", "read")
    assert issued["issued_token_type"] == f"{TOKEN_TYPE}access_token"
    assert "refresh_token" not in issued
    claims, old = claims_of(service, issued["access_token"]), claims_of(service, token)
    assert (claims["sub"], claims["aud"], claims["scope"]) == ("alice", INVENTORY, "read")
    assert claims["sid"] == old["sid"]
    assert claims["exp"] <= old["exp"]
    assert (answers.refused(1)["error"], answers.refused(1)["status"]) == ("invalid_scope", 400)
    assert_conformant(answers.wire)


@both_programs
def test_exchange_of_another_client_is_delegation_by_right(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    token = access_token_of(service)
    answers = ask(
        program,
        service,
        clients["gateway"],
        exchange(token, audience=INVENTORY, scope="read"),
        exchange(token, audience=API, scope="read"),
        exchange("not-a-token", audience=INVENTORY),
    )
    claims = claims_of(service, answers.ok()["access_token"])
    assert (claims["sub"], claims["client_id"], claims["act"]) == ("alice", "gateway", {"sub": "gateway"})
    assert answers.refused(1)["error"] == "invalid_target"
    assert (answers.refused(2)["error"], answers.refused(2)["status"]) == ("invalid_request", 400)
    assert_conformant(answers.wire)


@both_programs
def test_exchanged_token_ends_with_its_session(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    token = access_token_of(service)
    answers = ask(program, service, clients["gateway"], exchange(token, audience=INVENTORY, scope="read"))
    exchanged = answers.ok()["access_token"]
    assert not why(service, exchanged)

    async def end() -> None:
        async with Api(service.grpc_address) as api:
            await api.revoke(session_id=claims_of(service, token)["sid"])

    asyncio.run(end())
    assert why(service, exchanged) == "REVOKED"


@both_programs
def test_transaction_token_is_no_bearer_token(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    call = exchange(
        access_token_of(service),
        requested_token_type=f"{TOKEN_TYPE}txn_token",
        audience=TRUST_DOMAIN,
        scope="read",
    )
    answers = ask(program, service, clients["shop"], {**call, "token_type": "n_a"})
    issued = answers.ok()
    assert (issued["token_type"], issued["issued_token_type"]) == ("n_a", f"{TOKEN_TYPE}txn_token")
    claims = claims_of(service, issued["access_token"], typ="txntoken+jwt")
    assert (claims["sub"], claims["aud"], claims["scope"]) == ("alice", TRUST_DOMAIN, "read")
    assert claims["txn"]
    assert_conformant(answers.wire)


# --- Personal access tokens -------------------------------------------------------------------------------------------


def personal_access_token_of(service: OAuthNode, client_id: str) -> str:
    """Return a personal access token of alice for a client."""

    async def create() -> str:
        request = personal_pb.CreatePersonalAccessTokenRequest(
            subject="alice",
            client_id=client_id,
            name="nightly backup",
            audience=[API],
            scopes=["read", "write"],
            ttl=duration_pb2.Duration(seconds=3600),
        )
        async with Api(service.grpc_address) as api:
            stub: Any = personal_access_token_service_pb2_grpc.PersonalAccessTokenServiceStub(api.channel)
            return (await stub.CreatePersonalAccessToken(request, timeout=TIMEOUT)).token

    return asyncio.run(create())


@both_programs
def test_personal_access_token_gives_access_tokens_until_it_is_revoked(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    token = personal_access_token_of(service, "cli")
    call = exchange(token, subject_token_type=PERSONAL_ACCESS_TOKEN, scope="read")
    revoke = {"call": "revoke", "token": token, "parameters": {}}
    answers = ask(program, service, clients["cli"], call, call, revoke, call)
    first, second = answers.ok(0)["access_token"], answers.ok(1)["access_token"]
    assert first != second
    claims = claims_of(service, first)
    assert (claims["sub"], claims["client_id"], claims["aud"], claims["scope"]) == (
        "alice",
        "cli",
        API,
        "read",
    )
    assert answers.ok(2) is None
    assert (answers.refused(3)["error"], answers.refused(3)["status"]) == ("invalid_request", 400)
    assert [why(service, each) for each in (first, second)] == ["REVOKED", "REVOKED"]
    assert_conformant(answers.wire)


# --- Introspection and revocation -------------------------------------------------------------------------------------


@both_programs
def test_introspection_agrees_with_validation(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    token, refresh_token = access_token_of(service), refresh_token_of(service, "shop")
    answers = ask(
        program,
        service,
        clients["gateway"],
        *(
            {"call": "introspect", "token": each, "parameters": {"token_type_hint": "access_token"}}
            for each in (token, refresh_token, "not-a-token")
        ),
    )
    claims = claims_of(service, token)
    found = answers.ok(0)
    assert found["active"] is True
    for name in ("iss", "sub", "aud", "client_id", "scope", "exp", "iat", "jti", "sid"):
        assert found[name] == claims[name], name
    assert answers.ok(1)["active"] is True
    assert answers.ok(1)["token_use"] == "refresh_token"
    assert answers.ok(2) == {"active": False}
    assert_conformant(answers.wire)


@both_programs
def test_client_without_the_right_learns_nothing_about_tokens_of_others(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    token = refresh_token_of(service, "shop")
    call = {"call": "introspect", "token": token, "parameters": {}}
    assert ask(program, service, clients["shop"], call).ok()["active"] is True
    answers = ask(program, service, clients["other"], call)
    assert answers.ok() == {"active": False}
    assert_conformant(answers.wire)


@both_programs
@pytest.mark.parametrize("kind", ["access", "refresh"])
def test_revoked_token_is_inactive_at_once(
    service: OAuthNode, clients: Mapping[str, Client], program: str, kind: str
) -> None:
    token = access_token_of(service) if kind == "access" else refresh_token_of(service, "shop")
    look = {"call": "introspect", "token": token, "parameters": {}}
    revoke = {"call": "revoke", "token": token, "parameters": {"token_type_hint": f"{kind}_token"}}
    answers = ask(program, service, clients["shop"], look, revoke, look, revoke)
    assert answers.ok(0)["active"] is True
    assert answers.ok(1) is None
    assert answers.ok(2) == {"active": False}
    assert answers.ok(3) is None  # a revoked token is revoked (RFC 7009, section 2.2)
    assert why(service, token)
    revoked = [each for each in answers.wire if each["path"] == "/revoke"]
    assert [(each["status"], each["body"]) for each in revoked] == [(200, ""), (200, "")]
    assert_conformant(answers.wire)


@both_programs
def test_revocation_of_garbage_succeeds_and_of_another_client_is_refused(
    service: OAuthNode, clients: Mapping[str, Client], program: str
) -> None:
    token = refresh_token_of(service, "shop")
    answers = ask(
        program,
        service,
        clients["other"],
        {"call": "revoke", "token": "not-a-token", "parameters": {}},
        {"call": "revoke", "token": token, "parameters": {}},
    )
    assert answers.ok(0) is None
    assert answers.refused(1)["status"] == 400
    assert not why(service, token)
    assert_conformant(answers.wire)


@both_programs
@pytest.mark.parametrize("call", ["introspect", "revoke"])
def test_endpoints_challenge_a_wrong_secret(
    service: OAuthNode, clients: Mapping[str, Client], program: str, call: str
) -> None:
    wrong = Client("gateway", "client_secret_basic", "wrong")
    answers = ask(program, service, wrong, {"call": call, "token": "any", "parameters": {}})
    (challenge,) = answers.refused()["challenges"]
    assert challenge["scheme"] == "basic"
    assert json.loads(answers.wire[-1]["body"])["error"] == "invalid_client"
    assert_conformant(answers.wire)


def test_authlib_introspects_and_revokes(service: OAuthNode, clients: Mapping[str, Client]) -> None:
    shop, token = clients["shop"], access_token_of(service)
    server = httpx.get(
        f"{service.issuer}/.well-known/oauth-authorization-server", timeout=30, trust_env=False
    ).json()
    with OAuth2Client(shop.client_id, shop.secret, trust_env=False, timeout=30) as session:

        def introspect() -> dict[str, Any]:
            answer = session.introspect_token(
                server["introspection_endpoint"], token=token, token_type_hint="access_token"
            )
            return answer.json()

        assert introspect()["sub"] == "alice"
        answer = session.revoke_token(server["revocation_endpoint"], token=token)
        assert (answer.status_code, answer.content) == (200, b"")
        assert introspect() == {"active": False}


# --- jose -------------------------------------------------------------------------------------------------------------


def test_jose_verifies_every_kind_of_token(service: OAuthNode, clients: Mapping[str, Client]) -> None:
    async def issue() -> Any:
        async with Api(service.grpc_address) as api:
            return await api.issue(
                client_id="shop", audience=[API, INVENTORY], nonce="n", token_types=[ACCESS, ID]
            )

    issued = asyncio.run(issue())
    narrow = exchange(issued.access_token, audience=INVENTORY, scope="read")
    transaction = {
        "requested_token_type": f"{TOKEN_TYPE}txn_token",
        "audience": TRUST_DOMAIN,
        "scope": "read",
    }
    delegated = ask("openid_client.mjs", service, clients["gateway"], narrow).ok()["access_token"]
    in_trust_domain = ask(
        "openid_client.mjs", service, clients["shop"], exchange(issued.access_token, **transaction)
    ).ok()["access_token"]
    tokens = [issued.access_token, issued.id_token, delegated, in_trust_domain]
    said = nodejs.run(
        "jose.mjs",
        {"jwks_uri": f"{service.issuer}/.well-known/jwks.json", "issuer": service.issuer, "tokens": tokens},
    )
    found = [
        (each["header"]["typ"], each["claims"]["sub"], each["claims"].get("act")) for each in said["verified"]
    ]
    assert found == [
        ("at+jwt", "alice", None),
        ("JWT", "alice", None),
        ("at+jwt", "alice", {"sub": "gateway"}),
        ("txntoken+jwt", "alice", None),
    ]
