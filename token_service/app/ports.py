"""The ports and the options that the use cases of a node are composed with."""

from __future__ import annotations

import tomllib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

from token_service.clock import Clock
from token_service.core.access.counters import SharedCounters
from token_service.core.access.rights import Rights
from token_service.core.access.used_ids import UsedIds
from token_service.core.administration.automatic.rules import NO_RULES, AutomaticRules
from token_service.core.administration.subjects.store import SubjectStore
from token_service.core.clients.client import SecurityProfile
from token_service.core.clients.documents import DocumentRules, DocumentSource
from token_service.core.clients.sectors import SectorDocuments
from token_service.core.clients.store import ClientStore
from token_service.core.entropy import Entropy
from token_service.core.event_streams.outcome import Outcome as EventOutcome
from token_service.core.event_streams.pausing import PauseCause
from token_service.core.event_streams.pushing import SendEvent
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.events.audit import Audit
from token_service.core.events.keeper import KeeperRules
from token_service.core.events.log import EventLog
from token_service.core.events.store import AuditStore
from token_service.core.events.webhooks.schedule import RetryRules
from token_service.core.events.webhooks.sending import (
    NoAnswerError,
    Outcome as WebhookOutcome,
    SendWebhook,
    WebhookAnswer,
)
from token_service.core.events.webhooks.store import WebhookStore
from token_service.core.grants.device_requests import DeviceRequests
from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.making import NewKey
from token_service.core.keys.signer import Signer
from token_service.core.keys.store import KeyStore, StoredSigningKey
from token_service.core.leases import LeaseStore
from token_service.core.logout.delivering import Outcome, SendLogout
from token_service.core.logout.store import LogoutStore
from token_service.core.overrides.store import PolicyStore
from token_service.core.policies.policy import DAY, PolicyBook, parse_policy_book
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.reports.cluster.description import Identity
from token_service.core.reports.configuration import EffectiveConfiguration
from token_service.core.revocation.entries import RevocationEntries
from token_service.core.revocation.log import RevocationLog
from token_service.core.revocation.mirror import RevocationMirror
from token_service.core.sessions.selection import SessionSelections
from token_service.core.sessions.store import SessionStore
from token_service.core.sessions.walk import SessionWalk
from token_service.core.subscribers.node_store import NodeStore
from token_service.core.subscribers.samples import SampleStore
from token_service.errors import ConfigurationError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret


class Stores(Protocol):
    """The stores of one database."""

    @property
    def sessions(self) -> SessionStore:
        """Sessions."""

    @property
    def selections(self) -> SessionSelections:
        """Sessions by several conditions."""

    @property
    def entries(self) -> RevocationEntries:
        """Pages of the revocation log."""

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
    def policies(self) -> PolicyStore:
        """Overrides of the policies."""

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

    @property
    def walk(self) -> SessionWalk:
        """All live sessions, part by part."""

    @property
    def subjects(self) -> SubjectStore:
        """Data about one subject."""

    @property
    def events(self) -> EventLog:
        """The event log."""

    @property
    def event_streams(self) -> EventStreamStore:
        """Event streams of receivers."""

    @property
    def webhooks(self) -> WebhookStore:
        """The webhooks."""


class KeyProvider(Protocol):
    """Makes, opens and deletes private keys, in the process or in an HSM."""

    def generate(self, algorithm: Algorithm, rsa_bits: int | None, /) -> Awaitable[NewKey]:
        """See `GenerateKey`."""

    def destroy(self, key_id: str, provider: str, /) -> Awaitable[None]:
        """See `DestroyKey`."""

    def open_signer(self, key: StoredSigningKey, private_key: Secret | None, /) -> Signer:
        """See `OpenSigner`."""


async def _parse_policies(text: str) -> PolicyBook:
    try:
        return parse_policy_book(tomllib.loads(text))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"the policy file is not TOML: {error}") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeFiles:
    """What the files of a node say. The defaults are those of a node without files."""

    callers: Callable[[], Mapping[str, Rights]] = dict
    """Returns the rights of the callers of the policy file in force."""
    automatic_rules: Callable[[], AutomaticRules] = lambda: NO_RULES
    """Returns the rules of automatic revocation of the policy file in force."""
    parse_policies: Callable[[str], Awaitable[PolicyBook]] = _parse_policies
    """Returns the policies of the text of a policy file. Raises `ConfigurationError`."""
    policy_problem: Callable[[], str] = str
    """Tells why the newest policy file or overrides are not in force; empty: they are."""
    configuration: Callable[[], EffectiveConfiguration] = EffectiveConfiguration
    """Returns the settings in effect."""


@dataclass(frozen=True, slots=True)
class EventPushes:
    """Pushes of events to receivers."""

    send: SendEvent
    problem_of_url: Callable[[str], str]
    """Tells why nothing can be sent to a URL; empty: it can."""


async def _send_nothing(_url: str, _headers: Mapping[str, str], _body: bytes, /) -> WebhookAnswer:
    raise NoAnswerError("this process sends no webhooks")


@dataclass(frozen=True, slots=True, kw_only=True)
class WebhookPorts:
    """How webhooks are reached. By default none can be."""

    send: SendWebhook = _send_nothing
    problem_of_url: Callable[[str], str | None] = lambda _: None
    """Tells why a webhook can't have a URL."""
    counted: Callable[[WebhookOutcome], None] = lambda _: None
    """Is called with the outcome of each attempt."""


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
    rate_admitted: Callable[[Operation, Bucket], None] | None = None
    """Is called for each call that a rate counts and admits."""
    send_logout: SendLogout | None = None
    """Sends logout tokens; None: no client is told of logouts."""
    logout_counted: Callable[[Outcome], None] = lambda _: None
    """Is called with the outcome of each attempt to tell a client of a logout."""
    event_pushes: EventPushes | None = None
    """Sends events to receivers; None: they can only poll."""
    events_counted: Callable[[EventOutcome, int], None] = lambda _outcome, _count: None
    """Is called with the outcome of attempts to give events to receivers, and their number."""
    event_stream_paused: Callable[[PauseCause], None] = lambda _: None
    """Is called with the cause when this service pauses an event stream."""
    webhooks: WebhookPorts = field(default_factory=WebhookPorts)
    files: NodeFiles = field(default_factory=NodeFiles)


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
    accepts_loss: bool = False
    """Whether the log continues after a failover that may have lost entries."""
    max_revocations: int = 6000
    """Revocations of subjects, clients and token ids per minute by one caller that has no rate for them."""
    janitor_interval: float = 60.0
    session_retention: float = 7.0 * DAY
    """Time for which an ended session stays visible."""
    require_registered_clients: bool = False
    """Whether only clients of the registry get tokens."""
    security_profile: SecurityProfile = SecurityProfile.NONE
    """The security profile of every client, whatever its own is. With one, only registered clients get tokens."""
    client_documents: DocumentRules = field(default_factory=DocumentRules)
    """What clients may do that describe themselves."""
    signing_may_fail: bool = False
    """Whether signing keys live in an HSM, which can be unavailable."""
    audit: KeeperRules = field(default_factory=KeeperRules)
    webhook_retries: RetryRules = field(default_factory=RetryRules)
    identity: Identity = field(default_factory=Identity)
    """The place and the version of the node, which other nodes list."""
