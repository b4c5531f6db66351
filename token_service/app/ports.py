"""The ports and the options that the use cases of a node are composed with."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

from token_service.clock import Clock
from token_service.core.access.counters import SharedCounters
from token_service.core.access.used_ids import UsedIds
from token_service.core.clients.documents import DocumentRules, DocumentSource
from token_service.core.clients.sectors import SectorDocuments
from token_service.core.clients.store import ClientStore
from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.events.keeper import KeeperRules
from token_service.core.events.store import AuditStore
from token_service.core.grants.device_requests import DeviceRequests
from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.making import NewKey
from token_service.core.keys.signer import Signer
from token_service.core.keys.store import KeyStore, StoredSigningKey
from token_service.core.leases import LeaseStore
from token_service.core.logout.delivering import Outcome, SendLogout
from token_service.core.logout.store import LogoutStore
from token_service.core.policies.policy import DAY
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.revocation.log import RevocationLog
from token_service.core.revocation.mirror import RevocationMirror
from token_service.core.sessions.store import SessionStore
from token_service.core.subscribers.node_store import NodeStore
from token_service.core.subscribers.samples import SampleStore
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret


class Stores(Protocol):
    """The stores of one database."""

    @property
    def sessions(self) -> SessionStore:
        """Sessions."""

    @property
    def log(self) -> RevocationLog:
        """The revocation log."""

    @property
    def keys(self) -> KeyStore:
        """Signing keys and MAC keys."""

    @property
    def clients(self) -> ClientStore:
        """Registered clients."""

    @property
    def leases(self) -> LeaseStore:
        """Leases between nodes."""

    @property
    def used_ids(self) -> UsedIds:
        """Identifiers that may be used once."""

    @property
    def device_requests(self) -> DeviceRequests:
        """Requests of devices that wait for a user."""

    @property
    def nodes(self) -> NodeStore:
        """Reports of nodes about their subscribers."""

    @property
    def samples(self) -> SampleStore:
        """Samples of the cursors of subscribers."""

    @property
    def logouts(self) -> LogoutStore:
        """Logouts that clients are still to be told of."""

    @property
    def audit(self) -> AuditStore:
        """The stored audit trail."""


class KeyProvider(Protocol):
    """Makes, opens and deletes private keys, in the process or in an HSM."""

    def generate(self, algorithm: Algorithm, rsa_bits: int | None, /) -> Awaitable[NewKey]:
        """See `GenerateKey`."""

    def destroy(self, key_id: str, provider: str, /) -> Awaitable[None]:
        """See `DestroyKey`."""

    def open_signer(self, key: StoredSigningKey, private_key: Secret | None, /) -> Signer:
        """See `OpenSigner`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """The ports that the use cases need."""

    stores: Stores
    key_provider: KeyProvider
    wrap: KeyWrap
    clock: Clock
    entropy: Entropy
    audit: Audit
    mirror: RevocationMirror | None = None
    counters: SharedCounters | None = None
    """Counters of the rates; None: each node counts by itself."""
    client_documents: DocumentSource | None = None
    """Fetches client metadata documents; None: only the registry describes clients."""
    pairwise_key: Secret | None = None
    """The key of pairwise subjects, the same at all nodes; None: no client can have them."""
    sector_documents: SectorDocuments | None = None
    """Fetches the documents of sectors; None: no client can name one."""
    rate_limited: Callable[[Operation, Bucket], None] | None = None
    """Is called for each call that a rate refuses."""
    send_logout: SendLogout | None = None
    """Sends logout tokens; None: no client is told of logouts."""
    logout_counted: Callable[[Outcome], None] = lambda _: None
    """Is called with the outcome of each attempt to tell a client of a logout."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CoreOptions:
    """Options of one node. Times are in seconds."""

    node_id: str
    issuer: str
    rotation: RotationRules
    """Includes the algorithm that new tokens are signed with."""
    accepted: frozenset[Algorithm]
    """The accepted algorithms of tokens."""
    key_check_interval: float = 10.0
    poll_interval: float = 0.25
    """Interval between two reads of the head of the revocation log."""
    max_staleness: float = 10.0
    """Time without the database after which the node stops answering from its replica."""
    max_revocations: int = 6000
    """Revocations of subjects, clients and token ids per minute by one caller that has no rate for them."""
    janitor_interval: float = 60.0
    session_retention: float = 7.0 * DAY
    """Time for which an ended session stays visible."""
    require_registered_clients: bool = False
    """Whether only clients of the registry get tokens."""
    client_documents: DocumentRules = field(default_factory=DocumentRules)
    """What clients may do that describe themselves."""
    signing_may_fail: bool = False
    """Whether signing keys live in an HSM, which can be unavailable."""
    audit: KeeperRules = field(default_factory=KeeperRules)
