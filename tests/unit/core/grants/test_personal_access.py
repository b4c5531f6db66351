"""A grant accepts live personal access tokens, and nothing else."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node
from tests.unit.core.virtual_time import START, ManualClock, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.clients.client import ClientMetadata
from token_service.core.grants.personal_access import PersonalAccessProofs
from token_service.core.issuing.personal_access_tokens import CreateCommand, CreatedToken
from token_service.core.policies.policy import DAY
from token_service.errors import GrantInvalidError
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import OpaqueToken
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret


async def a_node(**options: Any) -> Node[ManualClock]:
    return await Node(ManualClock(), max_staleness=1e12, **options).start()


async def create(node: Node) -> CreatedToken:
    command = CreateCommand(
        subject="alice", client_id="web", name="backup", audience=("api",), scopes=("read",), ttl=30.0 * DAY
    )
    return await node.core.personal_access_tokens.create(Caller.system(), command, node.clock.now())


def proofs(node: Node) -> PersonalAccessProofs:
    return node.core.personal_access_proofs


@virtual_time
async def test_live_token_gives_its_session_and_records_the_use():
    node = await a_node()
    created = await create(node)
    node.clock.elapsed = 5
    await node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    session = await proofs(node).check(created.token, node.clock.now())
    assert (session.id, session.subject, session.client_id) == (created.session.id, "alice", "web")
    assert (session.audience, session.scopes) == (("api",), ("read",))
    assert (session.last_use_time, session.head) == (START + 5, 1)


@virtual_time
async def test_text_that_is_no_such_token_is_refused_without_a_query():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    created = await create(node)
    login = await node.issue(kinds=frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.SESSION}))
    sessions.calls.clear()
    for text in (
        "",
        "tspat_",
        "é" * 101,
        "tspat_" + "A" * 95,
        created.token[:-2] + "AA",
        login.access_token,
        login.refresh_token,
        login.session_token,
    ):
        with pytest.raises(GrantInvalidError):
            await proofs(node).check(text, node.clock.now())
    assert sessions.calls == []


@virtual_time
@pytest.mark.parametrize(
    "command",
    [
        {"target": RevocationTarget.SUBJECT, "value": "alice"},
        {"target": RevocationTarget.CLIENT, "value": "web"},
        {"target": RevocationTarget.EVERYTHING},
    ],
)
async def test_revoked_token_is_refused(command: dict[str, Any]):
    node = await a_node()
    created = await create(node)
    await node.revoke(**command)
    with pytest.raises(GrantInvalidError, match="is revoked"):
        await proofs(node).check(created.token, node.clock.now())


@virtual_time
async def test_token_revoked_between_its_read_and_its_use_is_refused():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    created = await create(node)

    async def revoke() -> None:
        await node.revoke(token=created.token)

    sessions.after["get"] = revoke
    with pytest.raises(GrantInvalidError, match="is revoked"):
        await proofs(node).check(created.token, node.clock.now())


@virtual_time
async def test_expired_token_is_refused():
    node = await a_node()
    created = await create(node)
    node.clock.elapsed = 30 * DAY
    with pytest.raises(GrantInvalidError, match="has expired"):
        await proofs(node).check(created.token, node.clock.now())


@virtual_time
async def test_authentic_token_with_another_secret_is_refused():
    node = await a_node()
    created = await create(node)
    keys = node.keyring.mac_keys
    other = OpaqueToken(
        TokenKind.PERSONAL_ACCESS, keys.active, created.session.id, 0, Secret(b"x" * 32)
    ).format(keys)
    with pytest.raises(GrantInvalidError):
        await proofs(node).check(other, node.clock.now())


@virtual_time
async def test_token_of_a_client_that_is_not_registered_is_refused_where_clients_must_be():
    node = await a_node()
    created = await create(node)
    await proofs(node).check(created.token, node.clock.now())
    strict = await a_node(stores=node.stores, require_registered_clients=True)
    with pytest.raises(GrantInvalidError, match="gets no tokens"):
        await proofs(strict).check(created.token, node.clock.now())


@virtual_time
async def test_disabled_client_has_no_tokens_even_after_it_is_enabled_again():
    node = await a_node()
    await node.core.client_administration.create(Caller.system(), "web", ClientMetadata(), START)
    created = await create(node)
    await proofs(node).check(created.token, node.clock.now())
    await node.core.client_administration.disable(Caller.system(), "web", START)
    await node.core.client_administration.enable(Caller.system(), "web", START)
    with pytest.raises(GrantInvalidError, match="is revoked"):
        await proofs(node).check(created.token, node.clock.now())
