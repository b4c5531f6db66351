"""Nodes that share a key table, reduced to the part that maintains keys. Keys are made once for all tests, and a test
moves the clocks.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import ISSUER, SYSTEM, PlainWrap, RecordingAudit, SomeStores, open_signer
from tests.unit.core.virtual_time import START
from token_service.app.core import build_core
from token_service.app.ports import CoreOptions, Ports
from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.making import NewKey
from token_service.core.keys.signer import Signer
from token_service.core.keys.store import SigningKeyState, StoredKeys, StoredSigningKey
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import RevocationDraft
from token_service.errors import ConfigurationError
from token_service.signers.private_key import (
    generate_private_key,
    key_id_of,
    private_key_bytes,
    public_key_bytes,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret

PERIOD = 90 * 86400.0
ANNOUNCE = 600.0


class TrueTime:
    """The true elapsed time, shared by all nodes."""

    def __init__(self) -> None:
        self.elapsed = 0.0


class NodeClock:
    """The clocks of one node. Only the wall clock may be wrong or jump."""

    def __init__(self, true: TrueTime) -> None:
        self.true = true
        self.skew = 0.0

    def now(self) -> float:
        return START + self.true.elapsed + self.skew

    def monotonic(self) -> float:
        return self.true.elapsed


@cache
def _pooled(algorithm: Algorithm, number: int) -> NewKey:
    key = generate_private_key(algorithm)
    return NewKey(key_id_of(key), public_key_bytes(key), private_key_bytes(key))


@dataclass
class KeyFactory:
    """Makes each key once per test run and returns the keys in the same order. Raises `failure` if set."""

    failure: Exception | None = None
    made: dict[Algorithm, int] = field(default_factory=dict)
    destroyed: list[str] = field(default_factory=list)
    sizes: list[int | None] = field(default_factory=list)

    async def generate(self, algorithm: Algorithm, rsa_bits: int | None = None) -> NewKey:
        if self.failure is not None:
            raise self.failure
        self.sizes.append(rsa_bits)
        self.made[algorithm] = number = self.made.get(algorithm, 0) + 1
        return _pooled(algorithm, number)

    async def destroy(self, key_id: str, provider: str) -> None:
        if self.failure is not None:
            raise self.failure
        self.destroyed.append(key_id)

    def open_signer(self, key: StoredSigningKey, private_key: Secret | None, /) -> Signer:
        return _InModule(key) if key.provider == "pkcs11" else open_signer(key, private_key)


class KeyRotatingWrap:
    """Wraps with the first of several key-encryption keys and unwraps with any."""

    def __init__(self, *key_ids: str) -> None:
        self.key_id = key_ids[0]
        self._wraps: Mapping[str, PlainWrap] = {key_id: PlainWrap(key_id) for key_id in key_ids}

    def wrap(self, plaintext: Secret, context: bytes) -> bytes:
        return self._wraps[self.key_id].wrap(plaintext, context)

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        if wrapping_key_id not in self._wraps:
            raise ConfigurationError(f"no key-encryption key {wrapping_key_id}")
        return self._wraps[wrapping_key_id].unwrap(wrapped, context, wrapping_key_id)


class _InModule:
    """The signer of a key that is not in the database."""

    def __init__(self, key: StoredSigningKey) -> None:
        self.key_id = key.key_id
        self.algorithm = key.algorithm

    async def sign(self, signing_input: bytes) -> bytes:
        return b"signed in the module: " + signing_input


class KeyNode:
    """The key management of one node."""

    def __init__(
        self,
        stores: Any,
        clock: NodeClock,
        *,
        keys: Any = None,
        leases: Any = None,
        node_id: str = "node-1",
        algorithm: Algorithm = Algorithm.ES256,
        factory: Any = None,
        wrap: KeyWrap | None = None,
        period: float = PERIOD,
        announce: float = ANNOUNCE,
    ) -> None:
        self.stores = stores
        self.clock = clock
        self.audit = RecordingAudit()
        self.factory = factory or KeyFactory()
        self.rules = RotationRules(algorithm, period, announce)
        core = build_core(
            Ports(
                stores=SomeStores.of(stores, keys=keys, leases=leases),
                key_provider=self.factory,
                wrap=wrap or PlainWrap(),
                clock=clock,
                entropy=random.Random(node_id).randbytes,
                audit=self.audit,
            ),
            CoreOptions(node_id=node_id, issuer=ISSUER, rotation=self.rules, accepted=frozenset(Algorithm)),
            Policies(PolicyBook()),
        )
        self.keyring, self.manager = core.keyring, core.key_manager
        self.subscribers, self.reports = core.subscribers, core.reports
        self.rotation = core.key_rotation

    async def start(self) -> KeyNode:
        await self.rotation.ensure()
        return self

    async def stored(self) -> StoredKeys:
        loaded: StoredKeys = await self.stores.keys.load()
        return loaded

    async def states(self) -> dict[str, str]:
        return {key.key_id: key.state.value for key in (await self.stored()).signing_keys}

    async def only(self, state: str, algorithm: Algorithm | None = None) -> StoredSigningKey:
        (key,) = await self.all(state, algorithm)
        return key

    async def all(self, state: str, algorithm: Algorithm | None = None) -> list[StoredSigningKey]:
        keys = (await self.stored()).signing_keys
        return [key for key in keys if key.state.value == state and algorithm in {None, key.algorithm}]

    async def put(self, key: StoredSigningKey, **changes: Any) -> None:
        """Write a row as an operator with a database shell does, and raise the revision."""
        stored = await self.stored()
        assert await self.stores.keys.save(stored.revision, [replace(key, **changes)], [])

    async def pass_time(self, seconds: float, *, look: int = 1) -> None:
        """Let time pass, with one key check before and `look` checks on the way."""
        await self.rotation.advance()
        for _ in range(look):
            self.clock.true.elapsed += seconds / look
            await self.rotation.advance()


def published(stored: StoredKeys) -> set[str]:
    """Return the ids of the keys that verify tokens."""
    return {key.key_id for key in stored.signing_keys if key.state is not SigningKeyState.REVOKED}


def new_node(stores: Any = None, true: TrueTime | None = None, **options: Any) -> KeyNode:
    """Return a node that is not started, with stores of its own by default."""
    clock = NodeClock(true or TrueTime())
    return KeyNode(stores if stores is not None else MemoryStores(clock), clock, **options)


def pair(**options: Any) -> tuple[KeyNode, KeyNode]:
    """Return two nodes that share everything but their clocks."""
    true, factory = TrueTime(), KeyFactory()
    stores = MemoryStores(NodeClock(true))
    first = new_node(stores, true, factory=factory, node_id="node-1", **options)
    return first, new_node(stores, true, factory=factory, node_id="node-2", **options)


def draft(key_id: str) -> RevocationDraft:
    """Return the log entry that revokes a key."""
    return draft_of(RevocationTarget.KEY, key_id, START)


async def revoke(node: KeyNode, key_id: str) -> None:
    """Revoke a key as the revoker does."""
    async with node.manager.revoking(SYSTEM, key_id):
        await node.stores.log.append([draft(key_id)])
