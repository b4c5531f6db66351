"""A node built by the composition root, on stores in memory and with cheap keys."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, Generic, Self, TypeVar

from tests.support.memory_mirror import MemoryMirror, MemoryMirrorData
from tests.support.memory_stores import MemoryStores
from token_service.app.core import build_core
from token_service.app.ports import CoreOptions, NodeFiles, Ports
from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.administration.automatic.rules import NO_RULES, AutomaticRules
from token_service.core.clients.client import SecurityProfile
from token_service.core.clients.documents import DocumentRules
from token_service.core.events.event import Actor, AuditEvent
from token_service.core.issuing.commands import IssueCommand, IssuedTokens, RefreshCommand
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.making import NewKey
from token_service.core.keys.store import StoredSigningKey
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import DAY, Policy, PolicyBook
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.revocation.commands import RevokeCommand, RevokeOutcome
from token_service.core.sessions.session import Session
from token_service.core.validation.introspector import Introspection, TokenQuery
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

ISSUER = "https://issuer.example"

ClockT = TypeVar("ClockT", bound=Clock)
SYSTEM = Actor.system("test")
"""The actor of changes that a test makes itself."""

Hook = Callable[[], Awaitable[None]]


class Intercepted:
    """Passes calls on to a store and runs hooks of the test `before` and `after` a method."""

    def __init__(self, target: Any) -> None:
        self.target = target
        self.calls: list[str] = []
        self.before: dict[str, Hook] = {}
        self.after: dict[str, Hook] = {}

    def __getattr__(self, name: str) -> Any:
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
    """Return a hook that raises the error."""

    async def hook() -> None:
        raise error

    return hook


class RecordingAudit:
    """An audit log that keeps its events in a list."""

    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def record(self, event: AuditEvent) -> None:
        self.events.append((event.action.value, event.line()))

    def record_alone(self, event: AuditEvent) -> None:
        self.record(event)

    def named(self, event: str) -> list[dict[str, object]]:
        return [fields for name, fields in self.events if name == event]


class PlainWrap:
    """A key wrap that encrypts nothing, but checks context and key as a real one does."""

    def __init__(self, key_id: str = "kek-1") -> None:
        self.key_id = key_id

    def wrap(self, plaintext: Secret, context: bytes) -> bytes:
        return hashlib.sha256(context).digest() + plaintext.reveal()

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        if wrapping_key_id != self.key_id or wrapped[:32] != hashlib.sha256(context).digest():
            raise ConfigurationError(f"no key-encryption key {wrapping_key_id}")
        return Secret(wrapped[32:])


async def generate(algorithm: Algorithm, rsa_bits: int | None = None) -> NewKey:
    """Return a new key, made in this thread."""
    key = generate_private_key(algorithm, rsa_bits=rsa_bits or 2048)
    return NewKey(key_id_of(key), public_key_bytes(key), private_key_bytes(key))


def open_signer(key: StoredSigningKey, private_key: Secret | None) -> LocalSigner:
    """Return a signer. All algorithms except RSA sign in this thread."""
    assert private_key is not None
    return LocalSigner(load_private_key(key.algorithm, private_key), made_for=key.algorithm)


class PlainKeys:
    """A `KeyProvider` that makes keys in this thread and stores none."""

    async def generate(self, algorithm: Algorithm, rsa_bits: int | None = None, /) -> NewKey:
        return await generate(algorithm, rsa_bits)

    async def destroy(self, key_id: str, provider: str, /) -> None:
        pass

    def open_signer(self, key: StoredSigningKey, private_key: Secret | None, /) -> LocalSigner:
        return open_signer(key, private_key)


@dataclass(frozen=True)
class SomeStores:
    """`Stores` of which a test may replace each one."""

    sessions: Any
    selections: Any
    log: Any
    entries: Any
    keys: Any
    clients: Any
    leases: Any
    nodes: Any
    used_ids: Any
    device_requests: Any
    audit: Any
    samples: Any
    logouts: Any
    policies: Any
    subjects: Any
    walk: Any
    events: Any
    event_streams: Any
    webhooks: Any

    @classmethod
    def of(cls, stores: Any, **others: Any) -> SomeStores:
        """Return the stores of `stores`, except those that `others` replaces with a value."""
        given = {name: store for name, store in others.items() if store is not None}
        return cls(**{each.name: given.get(each.name, getattr(stores, each.name)) for each in fields(cls)})


class Node(Generic[ClockT]):
    """The core of one node, on stores in memory."""

    def __init__(
        self,
        clock: ClockT,
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
        seed: int = 1,
        signing_may_fail: bool = False,
        max_revocations: int = 1_000_000,
        require_registered_clients: bool = False,
        security_profile: SecurityProfile = SecurityProfile.NONE,
        mirror: Any = None,
        counters: Any = None,
        documents: Any = None,
        document_rules: DocumentRules | None = None,
        pairwise_key: Secret | None = None,
        sectors: Any = None,
        issuer: str = ISSUER,
        send_logout: Any = None,
        event_pushes: Any = None,
        automatic_rules: AutomaticRules = NO_RULES,
    ) -> None:
        self.clock = clock
        self.stores = stores if stores is not None else MemoryStores(clock)
        ports = SomeStores.of(self.stores, sessions=sessions, log=log, nodes=nodes)
        self.session_store, self.log = ports.sessions, ports.log
        self.policies = Policies(PolicyBook({"internal": policy or Policy()}))
        self.audit = RecordingAudit()
        self.limited: list[tuple[Operation, Bucket]] = []
        self.logout_outcomes: list[str] = []
        self.event_outcomes: list[str] = []
        self.event_pauses: list[str] = []
        self.core = core = build_core(
            Ports(
                stores=ports,
                key_provider=PlainKeys(),
                wrap=PlainWrap(),
                clock=clock,
                entropy=random.Random(seed).randbytes,
                audit=self.audit,
                mirror=mirror if mirror is not None else MemoryMirror(MemoryMirrorData()),
                counters=counters,
                client_documents=documents,
                pairwise_key=pairwise_key,
                sector_documents=sectors,
                send_logout=send_logout,
                event_pushes=event_pushes,
                files=NodeFiles(automatic_rules=lambda: automatic_rules),
                events_counted=lambda outcome, count: self.event_outcomes.extend([outcome.value] * count),
                event_stream_paused=lambda cause: self.event_pauses.append(cause.value),
                logout_counted=lambda outcome: self.logout_outcomes.append(outcome.value),
                rate_limited=lambda operation, bucket: self.limited.append((operation, bucket)),
            ),
            CoreOptions(
                node_id=node_id,
                issuer=issuer,
                rotation=RotationRules(algorithm, period=90 * DAY, announce=600.0),
                accepted=frozenset(Algorithm),
                poll_interval=poll_interval,
                max_staleness=max_staleness,
                max_revocations=max_revocations,
                require_registered_clients=require_registered_clients,
                security_profile=security_profile,
                client_documents=document_rules or DocumentRules(security_profile=security_profile),
                signing_may_fail=signing_may_fail,
            ),
            self.policies,
        )
        self.keyring, self.key_manager, self.minter = core.keyring, core.key_manager, core.minter
        self.key_rotation = core.key_rotation
        self.replica, self.read_index, self.tailer = core.replica, core.read_index, core.tailer
        self.subscribers, self.reports, self.waits = core.subscribers, core.reports, core.waits
        self.clients = core.clients
        self.verifier, self.time = core.verifier, core.time
        self.issuer, self.refresher, self.revoker = core.issuer, core.refresher, core.revoker
        self.introspector, self.sessions = core.introspector, core.sessions

    async def start(self) -> Self:
        """Load keys and replica."""
        await self.core.start()
        self.audit.events.clear()
        return self

    @property
    def published(self) -> list[Revocation]:
        """The entries queued for the mirror, while no task publishes them."""
        assert self.core.mirroring is not None
        return [entry for _, entry in self.core.mirroring._queue]

    @property
    def policy(self) -> Policy:
        """The policy of every client."""
        return self.policies.book.policies["internal"]

    @policy.setter
    def policy(self, policy: Policy) -> None:
        self.policies.book = PolicyBook({"internal": policy})

    async def issue(self, subject: str = "alice", client_id: str = "web", **command: Any) -> IssuedTokens:
        return await self.issuer.issue(
            Caller.system(),
            IssueCommand(subject=subject, client_id=client_id, **command),
            self.clock.now(),
        )

    async def refresh(self, refresh_token: str, client_id: str = "web", **command: Any) -> IssuedTokens:
        return await self.refresher.refresh(
            Caller.system(),
            RefreshCommand(refresh_token=refresh_token, client_id=client_id, **command),
            self.clock.now(),
        )

    async def revoke(self, **command: Any) -> RevokeOutcome:
        return await self.revoker.revoke(Caller.system(), RevokeCommand(**command), self.clock.now())

    async def validate(self, token: str, **query: Any) -> Introspection:
        return await self.introspector.validate(Caller.system(), TokenQuery(token, **query))

    async def session(self, session_id: str) -> Session:
        return (await self.sessions.get(Caller.system(), session_id)).session


def sequences(entries: Sequence[Revocation]) -> list[int]:
    """Return the sequences of entries."""
    return [entry.sequence for entry in entries]
