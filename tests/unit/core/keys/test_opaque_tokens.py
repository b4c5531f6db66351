"""Tokens of a MAC key version that a node does not know: another node is ahead, or the version is invented."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.key_nodes import KeyRotatingWrap
from tests.unit.core.node import SYSTEM, Intercepted, Node, raising
from tests.unit.core.virtual_time import LoopClock, virtual_time
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.keys.sealer import Sealer
from token_service.core.policies.policy import DAY, Policy
from token_service.errors import (
    ConfigurationError,
    InvalidReason,
    KeysStaleError,
    RefreshTokenInvalidError,
    SessionRevokedError,
    StoreUnavailableError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import MacKeys, OpaqueToken
from token_service.tokens.secret import Secret

KINDS = frozenset({TokenKind.REFRESH, TokenKind.SESSION})
POLICY = Policy(refresh_token_ttl=400 * DAY, idle_timeout=400 * DAY, grace_period=300)


class Counted:
    """The stores of one node, with counted calls."""

    def __init__(self, stores: MemoryStores) -> None:
        self.sessions = Intercepted(stores.sessions)
        self.log = Intercepted(stores.log)
        self.keys = Intercepted(stores.keys)
        self.clients, self.leases, self.nodes = stores.clients, stores.leases, stores.nodes
        self.audit, self.samples, self.used_ids = stores.audit, stores.samples, stores.used_ids
        self.device_requests, self.logouts = stores.device_requests, stores.logouts
        self.selections, self.entries, self.policies = stores.selections, stores.entries, stores.policies
        self.events, self.event_streams, self.webhooks = stores.events, stores.event_streams, stores.webhooks
        self.subjects, self.walk = stores.subjects, stores.walk

    def calls(self) -> list[str]:
        return [*self.sessions.calls, *self.log.calls, *self.keys.calls]

    def forget(self) -> None:
        for store in (self.sessions, self.log, self.keys):
            store.calls.clear()


async def two_nodes() -> tuple[Node, Node, Counted]:
    """Return a node that changes the keys, a node with counted calls, and its stores."""
    clock = LoopClock()
    stores = MemoryStores(clock)
    counted = Counted(stores)
    options: dict[str, Any] = {"policy": POLICY, "max_staleness": 1e12}
    ahead = await Node(clock, stores=stores, **options).start()
    behind = await Node(
        clock, stores=counted, sessions=counted.sessions, log=counted.log, node_id="node-2", seed=2, **options
    ).start()
    return ahead, behind, counted


async def rewrap(node: Node) -> None:
    """Rewrap the keys with a key-encryption key that only this node has."""
    wrap = KeyRotatingWrap("kek-2", "kek-1")
    node.keyring._wrap = node.key_manager._maker._wrap = wrap
    assert await node.key_manager.rewrap(SYSTEM)


async def replace_mac_keys(node: Node, times: int = 2) -> None:
    """Rotate until new tokens use a new version."""
    for _ in range(times):
        await asyncio.sleep(90 * DAY)
        await node.key_rotation.advance()


def forged(version: int, kind: TokenKind = TokenKind.REFRESH) -> str:
    keys = MacKeys({version: Secret(b"k" * 32)}, version)
    return OpaqueToken(kind, version, UUID(int=7), 0, Secret(b"s" * 32)).format(keys)


async def stuck() -> tuple[Node, Node, Counted, IssuedTokens]:
    """Return a node that cannot use the stored keys, and tokens made with one of these keys."""
    ahead, behind, counted = await two_nodes()
    await rewrap(ahead)
    await replace_mac_keys(ahead)
    await behind.tailer.start()
    assert behind.keyring.failure is not None
    made = await ahead.issue(kinds=KINDS)
    assert ahead.keyring.mac_keys.active not in behind.keyring.mac_keys.keys
    counted.forget()
    return ahead, behind, counted, made


@virtual_time
async def test_node_with_unusable_new_keys_refuses_instead_of_ending_sessions():
    ahead, behind, counted, made = await stuck()
    with pytest.raises(KeysStaleError) as error:
        await behind.refresh(made.refresh_token)
    assert error.value.retry_after
    for token in (made.refresh_token, made.session_token):
        with pytest.raises(KeysStaleError):
            await behind.validate(token)
    with pytest.raises(KeysStaleError):
        await behind.revoke(token=made.refresh_token)  # must not be reported as success
    assert counted.calls() == []  # the refusals call no store
    assert (await ahead.refresh(made.refresh_token)).session_id == made.session_id
    # Tokens of known versions stay valid.
    own = await behind.issue(kinds=KINDS)
    assert (await behind.refresh(own.refresh_token)).session_id == own.session_id
    assert (await behind.validate(own.session_token)).reason is None


@virtual_time
async def test_node_recovers_with_the_missing_key_encryption_key():
    _, behind, _, made = await stuck()
    behind.keyring._wrap = KeyRotatingWrap("kek-2", "kek-1")
    await behind.tailer.start()
    assert behind.keyring.failure is None
    assert (await behind.validate(made.session_token)).reason is None
    assert (await behind.refresh(made.refresh_token)).session_id == made.session_id
    with pytest.raises(RefreshTokenInvalidError):
        await behind.refresh(forged(999))


@virtual_time
async def test_node_with_unreadable_rows_refuses_to_judge(caplog: pytest.LogCaptureFixture):
    ahead, behind, counted = await two_nodes()
    counted.keys.before["load"] = raising(ConfigurationError("a row can't be read"))
    await replace_mac_keys(ahead)
    for _ in range(3):
        await behind.tailer.start()
    made = await ahead.issue()
    with pytest.raises(KeysStaleError):
        await behind.refresh(made.refresh_token)
    said = [record.getMessage() for record in caplog.records if record.name.endswith("keyring")]
    assert said == ["the stored keys can't be used, the last good ones stay in use: a row can't be read"]


@virtual_time
async def test_node_recovers_when_the_rows_are_restored():
    _, behind, counted = await two_nodes()
    counted.keys.before["load"] = raising(ConfigurationError("a row can't be read"))
    with pytest.raises(ConfigurationError):
        await behind.keyring.refresh()
    del counted.keys.before["load"]
    await behind.tailer.start()  # reads the revision that it already has
    assert behind.keyring.failure is None
    with pytest.raises(RefreshTokenInvalidError):
        await behind.refresh(forged(999))


@virtual_time
async def test_invented_version_is_invalid_and_many_share_one_lookup():
    _, behind, counted = await two_nodes()
    tokens = [forged(version, kind) for version in range(100, 200) for kind in KINDS]
    await asyncio.sleep(1)
    refreshes = await asyncio.gather(*(behind.refresh(token) for token in tokens), return_exceptions=True)
    assert {type(result) for result in refreshes} == {RefreshTokenInvalidError}
    validated = await asyncio.gather(*(behind.validate(token) for token in tokens))
    assert {answer.reason for answer in validated} == {InvalidReason.BAD_SIGNATURE}
    assert (counted.sessions.calls, counted.keys.calls) == ([], ["load"])  # the read at the start
    assert counted.log.calls.count("head") <= 4
    # The number of lookups per second stays limited.
    counted.forget()

    async def forger() -> None:
        for _ in range(1000):
            await asyncio.sleep(0.001)
            with pytest.raises(RefreshTokenInvalidError):
                await behind.refresh(tokens[0])

    began = asyncio.get_running_loop().time()
    await asyncio.gather(*(forger() for _ in range(10)))
    elapsed = asyncio.get_running_loop().time() - began
    assert set(counted.calls()) == {"head"}
    assert 10 < len(counted.calls()) <= elapsed / 0.05 + 1


@virtual_time
async def test_unknown_version_is_looked_up():
    ahead, behind, counted = await two_nodes()
    await replace_mac_keys(ahead)
    made = await ahead.issue(kinds=KINDS)
    counted.forget()
    assert (await behind.refresh(made.refresh_token)).session_id == made.session_id
    assert counted.keys.calls == ["load"]
    assert (await behind.validate(made.session_token)).reason is None


@virtual_time
async def test_token_of_a_version_unknown_to_the_node_can_be_revoked():
    ahead, behind, _ = await two_nodes()
    await replace_mac_keys(ahead)
    made = await ahead.issue(kinds=KINDS)
    await behind.revoke(token=made.refresh_token)
    with pytest.raises(SessionRevokedError):
        await ahead.refresh(made.refresh_token)


@virtual_time
async def test_node_without_the_store_does_not_judge_unknown_versions():
    ahead, behind, counted = await two_nodes()
    await replace_mac_keys(ahead)
    made = await ahead.issue()
    counted.log.before["head"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await behind.refresh(made.refresh_token)
    # A version below the known ones cannot appear later.
    known = behind.keyring._copy
    assert known is not None
    behind.keyring._copy = replace(known, mac_keys=MacKeys({7: Secret(b"k" * 32)}, 7))
    with pytest.raises(RefreshTokenInvalidError):
        await behind.refresh(forged(6))


@virtual_time
async def test_retry_with_a_successor_of_an_unknown_key_raises_keys_stale():
    ahead, behind, _ = await two_nodes()
    first = await ahead.issue(request_id="once")
    await replace_mac_keys(ahead)
    second = await ahead.refresh(first.refresh_token)
    with pytest.raises(KeysStaleError):
        await behind.refresh(first.refresh_token)
    assert (await ahead.refresh(first.refresh_token)).refresh_token == second.refresh_token


@virtual_time
async def test_repeated_issue_with_tokens_of_an_unknown_key_raises_keys_stale():
    ahead, behind, _ = await two_nodes()
    await replace_mac_keys(ahead)
    first = await ahead.issue(request_id="once")
    with pytest.raises(KeysStaleError):
        await behind.issue(request_id="once")
    assert (await ahead.issue(request_id="once")).refresh_token == first.refresh_token


@virtual_time
async def test_sealed_value_of_a_version_unknown_to_the_node_is_opened():
    """An authorization code that was made right after a rotation, and is exchanged at a node that has not heard of it."""
    ahead, behind, _ = await two_nodes()
    await replace_mac_keys(ahead)
    assert ahead.keyring.mac_keys.active not in behind.keyring.mac_keys.keys
    sealers = [Sealer(node.keyring, node.core.key_lookups.look, bytes, "code") for node in (ahead, behind)]
    assert await sealers[1].open(sealers[0].seal(b"content")) == b"content"
    assert ahead.keyring.mac_keys.active in behind.keyring.mac_keys.keys
