"""A client exchanges its live personal access tokens for access tokens, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.jwts import claims_of
from tests.unit.core.node import Intercepted, Node
from tests.unit.core.virtual_time import START, ManualClock, virtual_time
from token_service.core.access.authenticator import rights_of_client
from token_service.core.access.caller import Caller, Proof
from token_service.core.clients.client import TOKEN_EXCHANGE, AuthMethod, ClientMetadata
from token_service.core.grants.commands import GrantRequest
from token_service.core.grants.exchange import ExchangeRequest
from token_service.core.grants.personal_access import PERSONAL_ACCESS_TOKEN
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.issuing.personal_access_tokens import CreateCommand, CreatedToken
from token_service.core.policies.policy import DAY, Policy
from token_service.core.sessions.personal_tokens import last_use
from token_service.errors import (
    InvalidReason,
    PermissionDeniedError,
    ScopeExceededError,
    SubjectTokenInvalidError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import OpaqueToken
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret

CLIENT = ClientMetadata(
    token_endpoint_auth_method=AuthMethod.CLIENT_SECRET_BASIC, grant_types=(TOKEN_EXCHANGE,)
)
SESSION_TOKEN = frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.SESSION})


async def a_node(**options: Any) -> Node[ManualClock]:
    """A node with the registered clients `ci` and `web`."""
    node = await Node(ManualClock(), max_staleness=1e12, **options).start()
    for client_id in ("ci", "web"):
        await node.core.client_administration.create(Caller.system(), client_id, CLIENT, START)
    return node


async def create(node: Node, **changes: Any) -> CreatedToken:
    command: dict[str, Any] = {
        "subject": "alice",
        "client_id": "ci",
        "name": "backup",
        "audience": ("orders", "files"),
        "scopes": ("read", "write"),
        "ttl": 30.0 * DAY,
        **changes,
    }
    return await node.core.personal_access_tokens.create(
        Caller.system(), CreateCommand(**command), node.clock.now()
    )


async def exchange(node: Node, token: str, client_id: str = "ci", **request: Any) -> IssuedTokens:
    client = node.clients.get(client_id)
    assert client is not None
    caller = Caller(client_id, rights_of_client(client), Proof.CLIENT_SECRET, client_id=client_id)
    exchanged = await node.core.oauth.grants.exchange.grant(
        caller,
        GrantRequest(**request),
        ExchangeRequest(subject_token=token, subject_token_type=PERSONAL_ACCESS_TOKEN),
        node.clock.now(),
    )
    return exchanged.tokens


async def cause(node: Node, token: str) -> str:
    """Return why the token is refused."""
    with pytest.raises(SubjectTokenInvalidError) as refused:
        await exchange(node, token)
    assert refused.value.metadata["parameter"] == "subject_token"
    assert token not in refused.value.message or not token
    return refused.value.metadata["cause"]


@virtual_time
async def test_access_token_has_the_content_of_the_personal_access_token():
    node = await a_node(policy=Policy(access_token_ttl=900))
    created = await create(node)
    await node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    claims = claims_of((await exchange(node, created.token)).access_token)
    assert {name: claims[name] for name in ("sub", "client_id", "aud", "scope", "sid", "rev")} == {
        "sub": "alice",
        "client_id": "ci",
        "aud": ["orders", "files"],
        "scope": "read write",
        "sid": str(created.session.id),
        "rev": 1,
    }
    assert claims["exp"] == int(START) + 900
    assert "act" not in claims


@virtual_time
async def test_access_token_may_have_less_and_never_more():
    node = await a_node()
    created = await create(node)
    narrowed = claims_of(
        (await exchange(node, created.token, scopes=("read",), audience=("files",))).access_token
    )
    assert (narrowed["scope"], narrowed["aud"]) == ("read", "files")
    with pytest.raises(ScopeExceededError):
        await exchange(node, created.token, scopes=("read", "admin"))
    with pytest.raises(PermissionDeniedError):
        await exchange(node, created.token, audience=("payroll",))


@virtual_time
async def test_access_token_never_outlives_the_personal_access_token():
    node = await a_node(policy=Policy(access_token_ttl=900))
    created = await create(node, ttl=1000.0)
    for elapsed, expires in ((0, 900), (99, 999), (101, 1000), (999, 1000)):
        node.clock.elapsed = elapsed
        assert claims_of((await exchange(node, created.token)).access_token)["exp"] == int(START) + expires
    node.clock.elapsed = 1000
    assert await cause(node, created.token) == "EXPIRED"


@virtual_time
@pytest.mark.parametrize("target", ["TOKEN", "SESSION", "SUBJECT", "CLIENT", "EVERYTHING"])
async def test_revocation_ends_the_token_and_the_access_tokens_made_from_it(target: str):
    node = await a_node()
    created = await create(node)
    access = (await exchange(node, created.token)).access_token
    assert (await node.validate(access)).reason is None
    if target == "TOKEN":
        await node.revoke(token=created.token)
    else:
        value = {"SESSION": str(created.session.id), "SUBJECT": "alice", "CLIENT": "ci", "EVERYTHING": ""}[
            target
        ]
        await node.revoke(target=RevocationTarget[target], value=value)
    assert (await node.validate(access)).reason is InvalidReason.REVOKED
    assert await cause(node, created.token) == "REVOKED"


@virtual_time
async def test_client_exchanges_its_own_tokens_only():
    node = await a_node()
    created = await create(node)
    with pytest.raises(PermissionDeniedError):
        await exchange(node, created.token, "web")


@virtual_time
async def test_text_that_is_no_such_token_is_refused_without_a_query():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    created = await create(node)
    login = await node.issue(client_id="ci", kinds=SESSION_TOKEN)
    sessions.calls.clear()
    for text, why in (
        ("", "MALFORMED"),
        ("tspat_", "MALFORMED"),
        ("é" * 101, "MALFORMED"),
        ("tspat_" + "A" * 95, "BAD_SIGNATURE"),
        (login.access_token, "MALFORMED"),
        (login.refresh_token, "WRONG_TYPE"),
        (login.session_token, "WRONG_TYPE"),
        ("tspat_" + login.session_token.removeprefix("st_"), "BAD_SIGNATURE"),
        (created.token[:-1], "MALFORMED"),
    ):
        assert await cause(node, text) == why
    assert sessions.calls == []


@virtual_time
async def test_authentic_token_with_another_secret_is_refused():
    node = await a_node()
    created = await create(node)
    keys = node.keyring.mac_keys
    other = OpaqueToken(TokenKind.PERSONAL_ACCESS, keys.active, created.session.id, 0, Secret(b"x" * 32))
    assert await cause(node, other.format(keys)) == "BAD_SIGNATURE"


@virtual_time
async def test_exchange_is_recorded_as_a_use():
    node = await a_node()
    created = await create(node)
    node.clock.elapsed = 5
    await exchange(node, created.token)
    assert last_use(await node.session(str(created.session.id))) == START + 5


@virtual_time
async def test_token_revoked_between_its_read_and_its_use_is_refused():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    created = await create(node)

    async def revoke() -> None:
        await node.revoke(token=created.token)

    sessions.after["get"] = revoke
    assert await cause(node, created.token) == "REVOKED"


@virtual_time
async def test_disabled_client_has_no_tokens_even_after_it_is_enabled_again():
    node = await a_node()
    created = await create(node)
    await node.core.client_administration.disable(Caller.system(), "ci", START)
    await node.core.client_administration.enable(Caller.system(), "ci", START)
    assert await cause(node, created.token) == "REVOKED"
    assert (await exchange(node, (await create(node)).token)).access_token


@virtual_time
async def test_token_of_a_client_that_is_not_registered_is_refused_where_clients_must_be():
    node = await a_node()
    created = await create(node, client_id="nightly")
    strict = await Node(
        ManualClock(), max_staleness=1e12, stores=node.stores, require_registered_clients=True
    ).start()
    assert await cause(strict, created.token) == "CLIENT"
