"""A node as the composition root puts it together, on stores in memory and with keys that cost nothing."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from tests.support.memory_stores import MemoryStores
from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.quotas import RateQuota
from token_service.core.issuing.commands import IssueCommand, IssuedTokens, RefreshCommand
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.minter import Minter
from token_service.core.issuing.refresher import Refresher
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.making import NewKey
from token_service.core.keys.manager import KeyManager
from token_service.core.keys.store import StoredSigningKey
from token_service.core.policies.policy import DAY, Policies, Policy, PolicyBook
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revoker import RevokeCommand, RevokeOutcome, Revoker
from token_service.core.revocation.steady_time import SteadyTime
from token_service.core.revocation.tailer import Tailer
from token_service.core.sessions.browsing import Sessions
from token_service.core.subscribers.registry import Validators
from token_service.core.validation.introspector import Introspection, Introspector, TokenQuery
from token_service.errors import ConfigurationError
from token_service.signers.local import LocalSigner
from token_service.signers.private_key import (
    generate_private_key,
    key_id_of,
    load_private_key,
    private_key_bytes,
    public_key_bytes,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import Revocation
from token_service.tokens.secret import Secret
from token_service.tokens.verifier import IssuerRules, Verifier

ISSUER = "https://issuer.example"

Hook = Callable[[], Awaitable[None]]


class Intercepted:
    """Passes calls on to a store, with what a test wants to happen `before` and `after` a method."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.calls: list[str] = []
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}

    def __getattr__(self, name: str) -> Callable[..., Awaitable[Any]]:
        method = getattr(self.target, name)

        async def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            if name in self.before:
                await self.before[name]()
            result = await method(*args, **kwargs)
            if name in self.after:
                await self.after[name]()
            return result

        return call


def raising(error: Exception) -> Hook:
    """A hook that fails."""

    async def hook() -> None:
        raise error

    return hook


class RecordingAudit:
    """Keeps what was recorded."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))

    def named(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.events if name == event]


class PlainWrap:
    """Encrypts nothing, but holds to context and key as a real one does."""

    def __init__(self, key_id: str = "kek-1") -> None:
        self.key_id = key_id

    def wrap(self, plaintext: Secret, context: bytes) -> bytes:
        return hashlib.sha256(context).digest() + plaintext.reveal()

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        if wrapping_key_id != self.key_id or wrapped[:32] != hashlib.sha256(context).digest():
            raise ConfigurationError(f"no key-encryption key {wrapping_key_id}")
        return Secret(wrapped[32:])


async def generate(algorithm: Algorithm, rsa_bits: int | None = None) -> NewKey:
    """A new key, made in this thread."""
    key = generate_private_key(algorithm, rsa_bits=rsa_bits or 2048)
    return NewKey(key_id_of(key), public_key_bytes(key), private_key_bytes(key))


def open_signer(key: StoredSigningKey, private_key: Secret | None) -> LocalSigner:
    """A signer; all but RSA sign in this thread."""
    assert private_key is not None
    return LocalSigner(load_private_key(key.algorithm, private_key))


class Node:
    """Everything between the edges of one node."""

    def __init__(
        self,
        clock: Clock,
        *,
        stores: Any = None,
        sessions: Any = None,
        log: Any = None,
        nodes: Any = None,
        policy: Policy | None = None,
        algorithm: Algorithm = Algorithm.HS256,
        node_id: str = "node-1",
        poll_interval: float = 1.0,
        max_staleness: float = 5.0,
        time: SteadyTime | None = None,
        seed: int = 1,
        signing_may_fail: bool = False,
        max_revocations: int = 1_000_000,
    ) -> None:
        self.signing_may_fail = signing_may_fail
        self.max_revocations = max_revocations
        self.clock = clock
        self.stores = stores if stores is not None else MemoryStores(clock)
        self.session_store = sessions if sessions is not None else self.stores.sessions
        self.log = log if log is not None else self.stores.log
        self.policies = Policies(PolicyBook({"internal": policy or Policy()}))
        self.entropy = random.Random(seed).randbytes
        self.audit = RecordingAudit()
        self.published: list[Revocation] = []
        self.keyring = Keyring(
            self.stores.keys,
            PlainWrap(),
            algorithm,
            open_signer=open_signer,
        )
        self.replica = Replica()
        self.read_index = ReadIndex(self.log)
        self.tailer = Tailer(
            self.log,
            self.replica,
            self.read_index,
            self.keyring,
            clock,
            poll_interval=poll_interval,
            max_staleness=max_staleness,
            time=time,
        )
        self.validators = Validators(node_id, nodes if nodes is not None else self.stores.nodes, clock)
        self.key_manager = KeyManager(
            self.stores.keys,
            self.keyring,
            PlainWrap(),
            self.stores.leases,
            self.validators,
            clock,
            self.audit,
            RotationRules(algorithm, period=90 * DAY, announce=600.0),
            node_id=node_id,
            generate=generate,
            entropy=self.entropy,
            interval=10.0,
        )
        self.minter = Minter(ISSUER, self.keyring, self.entropy)

    async def start(self) -> Node:
        """Load keys and replica, and build what needs them."""
        await self.key_manager.ensure()
        self.audit.events.clear()
        await self.tailer.start()
        rules = IssuerRules(ISSUER, frozenset(Algorithm))
        self.verifier = Verifier([(rules, self.keyring.key_set)])
        self.keyring.on_change(lambda: self.verifier.replace_key_set(ISSUER, self.keyring.key_set))
        self.revoker = Revoker(
            self.log,
            self.tailer,
            self.read_index,
            self.verifier,
            self.keyring,
            self.key_manager,
            self.validators,
            self.audit,
            quota=RateQuota("revocations", self.max_revocations, 60.0, self.clock.monotonic),
            publish=self.published.extend,
        )
        self.issuer = Issuer(
            self.session_store,
            self.minter,
            self.keyring,
            self.policies,
            self.replica,
            issuer=ISSUER,
            entropy=self.entropy,
            audit=self.audit,
        )
        self.refresher = Refresher(
            self.session_store,
            self.minter,
            self.keyring,
            self.policies,
            self.revoker,
            self.tailer,
            self.audit,
            signing_may_fail=self.signing_may_fail,
        )
        self.introspector = Introspector(
            self.verifier, self.replica, self.tailer, self.session_store, self.keyring, self.policies
        )
        self.sessions = Sessions(self.session_store, self.policies)
        return self

    @property
    def policy(self) -> Policy:
        """The policy of every client."""
        return self.policies.book.policies["internal"]

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.policies.book = PolicyBook({"internal": policy})

    async def issue(self, subject: str = "alice", client_id: str = "web", **command: Any) -> IssuedTokens:
        return await self.issuer.issue(
            IssueCommand(subject=subject, client_id=client_id, **command), self.clock.now()
        )

    async def refresh(self, refresh_token: str, client_id: str = "web", **command: Any) -> IssuedTokens:
        return await self.refresher.refresh(
            RefreshCommand(refresh_token=refresh_token, client_id=client_id, **command), self.clock.now()
        )

    async def revoke(self, **command: Any) -> RevokeOutcome:
        return await self.revoker.revoke(RevokeCommand(**command), self.clock.now(), Caller.system())

    async def validate(self, token: str, **query: Any) -> Introspection:
        return await self.introspector.validate(TokenQuery(token, **query), self.clock.now())


def sequences(entries: Sequence[Revocation]) -> list[int]:
    """The sequences of entries."""
    return [entry.sequence for entry in entries]
