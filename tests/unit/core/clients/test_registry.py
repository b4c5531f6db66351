"""The registry in memory, and what it decides for the calls that issue and refresh tokens."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from msgspec import structs

from tests.contract.builders import a_client, an_end
from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node, SomeStores, raising
from tests.unit.core.virtual_time import ManualClock
from token_service.core.clients.client import AuthMethod, ClientState, SecurityProfile
from token_service.core.clients.registry import ClientRegistry
from token_service.core.policies.policy import Policy, PolicyBook
from token_service.errors import (
    ClientDisabledError,
    ClientNotFoundError,
    InvalidReason,
    PolicyViolationError,
    SessionRevokedError,
    StoreUnavailableError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import RevocationTarget

BOTH = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})


async def a_node(**options: Any) -> Node:
    return await Node(ManualClock(), max_staleness=1e12, **options).start()


async def test_change_of_another_node_is_amended_without_loading_everything() -> None:
    stores = MemoryStores()
    clients = Intercepted(stores.clients)
    registry = ClientRegistry(clients)
    told: list[set[str]] = []
    registry.on_change(lambda changed: told.append(set(changed)))
    for number in range(3):
        await stores.clients.create(a_client(f"c{number}", scopes=("a", str(number % 2))))
    await registry.refresh(revision=3)
    assert (len(registry), registry.revision) == (3, 3)
    known = registry.get("c0")
    await stores.log.append([an_end("c1", ClientState.DELETED)])
    await registry.refresh(revision=4)
    assert registry.get("c1").state is ClientState.DELETED  # type: ignore[union-attr]
    assert registry.get("c0") is known
    assert registry.get("unknown") is None
    calls = len(clients.calls)
    await registry.refresh(revision=4)
    assert len(clients.calls) == calls
    assert told == [{"c0", "c1", "c2"}, {"c1"}]


async def test_every_client_has_the_profile_of_the_service() -> None:
    stores = MemoryStores()
    registry = ClientRegistry(stores.clients, SecurityProfile.FAPI2)
    await stores.clients.create(a_client("old"))
    await registry.start_over()
    await stores.clients.create(a_client("new"))
    await registry.refresh()
    found = [registry.get(client_id) for client_id in ("old", "new")]
    assert [client and client.security_profile for client in found] == [SecurityProfile.FAPI2] * 2
    plain = ClientRegistry(stores.clients)
    await plain.refresh()
    assert plain.get("new").security_profile is SecurityProfile.NONE  # type: ignore[union-attr]


async def test_restored_database_replaces_the_registry() -> None:
    registry = ClientRegistry(MemoryStores().clients)
    stores = MemoryStores()
    registry._store = stores.clients
    for client_id in ("kept", "lost", "changed"):
        await stores.clients.create(a_client(client_id, client_name="new"))
    await registry.refresh()
    restored = MemoryStores()
    for client_id in ("kept", "changed"):
        await restored.clients.create(a_client(client_id, client_name="new" if client_id == "kept" else ""))
    registry._store = restored.clients
    told: list[set[str]] = []
    registry.on_change(lambda changed: told.append(set(changed)))
    await registry.refresh(revision=2)
    assert registry.revision == 2
    assert registry.get("lost") is None
    assert told == [{"lost", "changed"}]


async def test_head_read_before_own_change_does_not_replace_the_registry() -> None:
    stores = MemoryStores()
    registry = ClientRegistry(stores.clients)
    await stores.clients.create(a_client("a"))
    await stores.clients.create(a_client("b"))
    await registry.refresh(revision=2)
    known = registry.get("a")
    await registry.refresh(revision=1)
    assert (registry.revision, registry.get("a") is known) == (2, True)


async def test_tailer_follows_the_registry_at_another_node() -> None:
    stores = MemoryStores()
    node = await a_node(stores=stores)
    await stores.clients.create(a_client("web"))
    assert node.clients.get("web") is None
    await node.tailer.start()
    assert node.clients.get("web") is not None


@pytest.mark.parametrize("state", [ClientState.DISABLED, ClientState.DELETED])
async def test_ended_client_gets_no_tokens_at_once(state: ClientState) -> None:
    node = await a_node()
    await node.stores.clients.create(a_client("web"))
    await node.tailer.start()
    tokens = await node.issue(kinds=BOTH)
    await node.revoker.append([an_end("web", state)])
    with pytest.raises(ClientDisabledError):
        await node.issue()
    with pytest.raises(ClientDisabledError):
        await node.refresh(tokens.refresh_token)
    assert (await node.validate(tokens.access_token)).reason is InvalidReason.REVOKED


async def test_enabling_restores_nothing_that_was_revoked() -> None:
    node = await a_node()
    await node.stores.clients.create(a_client("web"))
    await node.tailer.start()
    before = await node.issue(kinds=BOTH)
    await node.revoker.append([an_end("web", ClientState.DISABLED)])
    disabled = node.clients.get("web")
    assert disabled is not None
    await node.stores.clients.save(structs.replace(disabled, state=ClientState.ACTIVE))
    await node.tailer.start()
    with pytest.raises(SessionRevokedError):
        await node.refresh(before.refresh_token)
    assert (await node.validate(before.access_token)).reason is InvalidReason.REVOKED
    after = await node.issue(kinds=BOTH)
    assert (await node.validate(after.access_token)).reason is None


async def test_replica_never_has_a_revocation_of_a_client_that_the_registry_lacks() -> None:
    """Else a token for the disabled client would claim to know the revocation, and outlive it."""
    stores = MemoryStores()
    clients = Intercepted(stores.clients)
    node = await a_node(stores=SomeStores.of(stores, clients=clients))
    await stores.clients.create(a_client("web"))
    await node.tailer.start()
    await stores.log.append([an_end("web", ClientState.DISABLED)])  # by another node
    clients.before["load"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.tailer.start()
    assert node.replica.applied == 0
    with pytest.raises(ClientDisabledError):  # the database knows
        await node.issue(kinds=BOTH)
    token = (await node.issue(kinds=frozenset({TokenKind.ACCESS}))).access_token  # this node does not
    await node.revoker.append([])
    assert node.replica.applied == 0
    del clients.before["load"]
    await node.tailer.start()
    assert node.replica.applied == 1
    assert (await node.validate(token)).reason is InvalidReason.REVOKED
    with pytest.raises(ClientDisabledError):
        await node.issue()


async def test_unregistered_client_is_refused_only_if_the_setting_says_so() -> None:
    assert (await (await a_node()).issue(client_id="unregistered")).access_token
    node = await a_node(require_registered_clients=True)
    with pytest.raises(ClientNotFoundError):
        await node.issue(client_id="unregistered")
    await node.stores.clients.create(a_client("web"))
    await node.tailer.start()
    assert (await node.issue()).access_token


async def test_scopes_and_audiences_of_a_client_bound_its_tokens() -> None:
    node = await a_node()
    await node.stores.clients.create(a_client("web", scopes=("read",), audiences=("api",)))
    await node.tailer.start()
    assert (await node.issue(scopes=("read",), audience=("api",))).access_token
    cases: tuple[tuple[dict[str, Any], str], ...] = (
        ({"scopes": ("read", "write")}, "scopes"),
        ({"audience": ("b",)}, "audience"),
        ({}, "audience"),
    )
    for command, field in cases:
        with pytest.raises(PolicyViolationError) as error:
            await node.issue(**command)
        assert error.value.metadata == {"field": field}


async def test_classification_in_the_registry_overrides_the_policy_file() -> None:
    node = await a_node()
    strict = Policy(access_token_ttl=60)
    node.policies.book = PolicyBook({"internal": Policy(), "strict": strict}, {"web": "internal"})
    assert node.policies.of("web") == Policy()
    await node.stores.clients.create(a_client("web", classification="strict"))
    await node.stores.clients.create(a_client("plain"))
    await node.tailer.start()
    assert node.policies.of("web") is strict
    assert node.policies.of("plain") == Policy()
    node.policies.book = replace(node.policies.book, policies={"internal": Policy()})
    with pytest.raises(PolicyViolationError, match="policy file"):
        node.policies.of("web")


async def test_plain_revocation_of_a_client_leaves_it_active() -> None:
    node = await a_node()
    await node.stores.clients.create(a_client("web"))
    await node.tailer.start()
    token = (await node.issue()).access_token
    await node.revoke(target=RevocationTarget.CLIENT, value="web")
    assert (await node.validate(token)).reason is InvalidReason.REVOKED
    assert (await node.issue()).access_token


async def test_only_clients_with_certificates_count_as_changes_of_certificates() -> None:
    stores = MemoryStores()
    registry = ClientRegistry(stores.clients)
    name = "spiffe://example.org/batch"
    by_certificate = {
        "token_endpoint_auth_method": AuthMethod.TLS_CLIENT_AUTH,
        "tls_client_auth_san_uri": name,
    }
    await stores.clients.create(a_client("batch", **by_certificate))
    await registry.refresh(revision=1)
    changes = registry.certificate_changes
    found = registry.of_certificate([name])
    assert found is not None
    assert found.client_id == "batch"
    for number in range(2, 5):
        await stores.clients.create(a_client(f"c{number}"))
        await registry.refresh(revision=number)
    assert registry.certificate_changes == changes
    assert registry.of_certificate([name]) is found
    await stores.log.append([an_end("batch", ClientState.DELETED)])  # its record no longer tells the method
    await registry.refresh(revision=5)
    assert registry.certificate_changes == changes + 1
    assert registry.of_certificate([name]) is None
    await stores.clients.create(a_client("second", **by_certificate))
    await registry.refresh(revision=6)
    assert registry.certificate_changes == changes + 2
    await registry.start_over()
    assert registry.certificate_changes == changes + 3
