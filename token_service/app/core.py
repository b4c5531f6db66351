"""Composition of the use cases of one node.

The running node, the command-line commands and the tests call `build_core` with their own ports.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from token_service.clock import Clock
from token_service.core.access.counters import Counters, SharedCounters
from token_service.core.access.document_clients import DocumentClients
from token_service.core.access.quotas import RateQuota
from token_service.core.access.rates import Rates
from token_service.core.access.refusals import Refusals
from token_service.core.access.used_ids import UsedIds
from token_service.core.administration.clients import ClientAdministration
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.documents import DocumentRules, DocumentSource
from token_service.core.clients.lookup import Clients
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.clients.registry import ClientRegistry
from token_service.core.clients.sectors import SectorDocuments
from token_service.core.clients.store import ClientStore
from token_service.core.entropy import Entropy
from token_service.core.events.audit import Audit
from token_service.core.events.keeper import AuditKeeper, KeeperRules
from token_service.core.events.store import AuditStore
from token_service.core.grants.assertion import AssertionGrant
from token_service.core.grants.authorization import AuthorizationGrants
from token_service.core.grants.client_credentials import ClientCredentials
from token_service.core.grants.code import CodeGrant
from token_service.core.grants.codes import Codes
from token_service.core.grants.device import DeviceGrant
from token_service.core.grants.device_authorization import DeviceAuthorizations
from token_service.core.grants.device_codes import DeviceCodes
from token_service.core.grants.device_paces import Paces
from token_service.core.grants.device_requests import DeviceRequests
from token_service.core.grants.exchange import TokenExchange
from token_service.core.grants.global_revocation import GlobalRevocation
from token_service.core.grants.grants import Grants
from token_service.core.grants.personal_access import PERSONAL_ACCESS_TOKEN, PersonalAccessReader
from token_service.core.grants.presented import PresentedTokens
from token_service.core.grants.refresh import RefreshGrant
from token_service.core.grants.registration import Registration
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.minter import Minter
from token_service.core.issuing.personal_access_tokens import PersonalAccessTokens
from token_service.core.issuing.raising import SessionRaiser
from token_service.core.issuing.refresher import Refresher
from token_service.core.issuing.session_updates import SessionUpdates
from token_service.core.issuing.terms import Terms
from token_service.core.keys.announcement import Announcement
from token_service.core.keys.key_wrap import KeyWrap
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.lifecycle import RotationRules
from token_service.core.keys.making import KeyMaker, NewKey
from token_service.core.keys.manager import KeyManager
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.keys.rotation import KeyRotation
from token_service.core.keys.sealer import Sealer
from token_service.core.keys.signer import Signer
from token_service.core.keys.store import KeyStore, StoredSigningKey
from token_service.core.keys.table import KeyTable
from token_service.core.leases import Lease, LeaseStore
from token_service.core.login.device_use_cases import DeviceUseCases
from token_service.core.login.devices import DeviceLogins
from token_service.core.login.step_up import IdTokenHints
from token_service.core.login.upstream_logout import UpstreamLogout
from token_service.core.login.use_cases import LoginUseCases, make_login_use_cases
from token_service.core.logout.backchannel import BackchannelLogout, LogoutPorts, make_backchannel_logout
from token_service.core.logout.clients import LogoutClients
from token_service.core.logout.delivering import Outcome, SendLogout
from token_service.core.logout.end_session import EndSession
from token_service.core.logout.store import LogoutStore
from token_service.core.maintenance.janitor import Janitor
from token_service.core.policies.policy import DAY, Policies
from token_service.core.policies.rates import Bucket, Operation
from token_service.core.reports.audit import AuditReports
from token_service.core.revocation.confirmations import Confirmations
from token_service.core.revocation.drafts import Drafts
from token_service.core.revocation.failover_log import FailoverLog
from token_service.core.revocation.key_lookups import KeyLookups
from token_service.core.revocation.log import RevocationLog
from token_service.core.revocation.mirror import RevocationMirror
from token_service.core.revocation.mirroring import Mirroring
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revisions import RevisionedCopies
from token_service.core.revocation.revoker import Revoker
from token_service.core.revocation.steady_time import SteadyTime
from token_service.core.revocation.tailer import Tailer
from token_service.core.revocation.token_revocation import TokenRevocation
from token_service.core.sessions.browsing import Sessions
from token_service.core.sessions.store import SessionStore
from token_service.core.subscribers.node_store import NodeStore
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.reports import Reports
from token_service.core.subscribers.samples import CursorSampler, SampleStore
from token_service.core.subscribers.waits import Waits
from token_service.core.validation.introspector import Introspector
from token_service.core.validation.userinfo import UserInfo
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind
from token_service.tokens.key_set import KeySet
from token_service.tokens.secret import Secret
from token_service.tokens.verifier import IssuerRules, Verifier

_REVOCATION_WINDOW: Final = 60.0
_OWN_KINDS: Final = frozenset({TokenKind.ACCESS, TokenKind.ID, TokenKind.TRANSACTION})
"""The JWTs that a node verifies."""


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Core:
    """The use cases of one node, and their shared state. Call `start` before any use case."""

    options: CoreOptions
    ports: Ports
    policies: Policies
    counters: Counters
    clients: ClientRegistry
    known_clients: Clients
    """The registered clients, and those that describe themselves in a metadata document, if the ports fetch these."""
    keyring: Keyring
    key_rotation: KeyRotation
    key_manager: KeyManager
    subscribers: Subscribers
    reports: Reports
    waits: Waits
    log: RevocationLog
    time: SteadyTime
    replica: Replica
    read_index: ReadIndex
    confirmations: Confirmations
    tailer: Tailer
    key_lookups: KeyLookups
    verifier: Verifier
    mirroring: Mirroring | None
    minter: Minter
    subjects: PairwiseSubjects
    issuer: Issuer
    refresher: Refresher
    grants: Grants
    global_revocation: GlobalRevocation
    authorization_grants: AuthorizationGrants
    login: LoginUseCases
    devices: DeviceUseCases
    upstream_logout: UpstreamLogout
    revoker: Revoker
    token_revocation: TokenRevocation
    userinfo: UserInfo
    end_session: EndSession
    backchannel_logout: BackchannelLogout | None
    introspector: Introspector
    sessions: Sessions
    client_administration: ClientAdministration
    session_updates: SessionUpdates
    personal_access_tokens: PersonalAccessTokens
    janitor: Janitor
    refusals: Refusals
    audit_keeper: AuditKeeper
    audit_reports: AuditReports
    sampler: CursorSampler

    async def start(self) -> None:
        """Load the keys and the replica; the first node of a database makes its first keys.

        Raises `ConfigurationError` for a damaged database, `StoreUnavailableError`.
        """
        await self.key_rotation.ensure()
        await self.time.resume(self.ports.stores.leases)
        await self.tailer.start()

    def background(self) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return the background tasks by name. Each runs until cancelled; a task that fails ends the node."""
        tasks = {
            "tailer": self.tailer.run,
            "subscriber-reports": self.reports.run,
            "key-rotation": self.key_rotation.run,
            "janitor": self.janitor.run,
            "audit-keeper": self.audit_keeper.run,
            "cursor-samples": self.sampler.run,
        }
        if self.mirroring is not None:
            tasks["mirroring"] = self.mirroring.run
        if self.backchannel_logout is not None:
            tasks["backchannel-logout"] = self.backchannel_logout.run
        if self.ports.counters is not None:
            tasks["counters"] = self.counters.run
        return tasks


def build_core(ports: Ports, options: CoreOptions, policies: Policies) -> Core:
    """Compose the use cases, without I/O."""
    stores, clock, entropy, audit = ports.stores, ports.clock, ports.entropy, ports.audit
    clients = ClientRegistry(stores.clients)
    known_clients: Clients = clients
    if ports.client_documents is not None:
        known_clients = DocumentClients(clients, ports.client_documents, options.client_documents, clock)
    policies.classify_by(known_clients.classification)
    keyring = Keyring(
        stores.keys, ports.wrap, options.rotation.algorithm, open_signer=ports.key_provider.open_signer
    )
    subscribers = Subscribers(clock)
    reports = Reports(options.node_id, stores.nodes, subscribers, clock)
    waits = Waits(subscribers, reports, clock)
    table = KeyTable(stores.keys, keyring, clock, audit)
    maker = KeyMaker(ports.wrap, entropy, ports.key_provider.generate, ports.key_provider.destroy)
    announcement = Announcement(table, reports, clock, options.rotation)
    key_rotation = KeyRotation(
        table,
        maker,
        announcement,
        Lease(stores.leases, "keys", options.node_id),
        clock,
        options.rotation,
        interval=options.key_check_interval,
    )
    key_manager = KeyManager(table, key_rotation, maker, announcement, clock, options.rotation)
    verifier = Verifier([(IssuerRules(options.issuer, options.accepted, _OWN_KINDS), KeySet([]))])
    keyring.on_change(lambda: verifier.replace_key_set(options.issuer, keyring.key_set))
    log = FailoverLog(stores.log, clock, entropy, audit)
    time = SteadyTime(clock)
    replica = Replica()
    read_index = ReadIndex(log)
    confirmations = Confirmations(read_index, replica, subscribers)
    tailer = Tailer(
        log,
        replica,
        read_index,
        RevisionedCopies(keyring, clients),
        clock,
        poll_interval=options.poll_interval,
        max_staleness=options.max_staleness,
        time=time,
    )
    mirroring = None if ports.mirror is None else Mirroring(ports.mirror, log, read_index, replica, tailer)
    subjects = PairwiseSubjects(known_clients, ports.pairwise_key)
    minter = Minter(options.issuer, keyring, entropy, subjects)
    key_lookups = KeyLookups(tailer, keyring, clock)
    opaque_tokens = OpaqueTokens(keyring, key_lookups.look)
    counters = Counters(clock.monotonic, ports.counters)
    rates = Rates(
        policies,
        counters,
        RateQuota(
            "revocations of subjects, clients and token ids",
            options.max_revocations,
            _REVOCATION_WINDOW,
            clock.monotonic,
        ),
        log=lambda: replica.epoch,
        refused=ports.rate_limited,
    )
    admission = ClientAdmission(
        known_clients, policies, require_registered=options.require_registered_clients
    )
    terms = Terms(admission, rates)
    revoker = Revoker(
        log,
        tailer,
        read_index,
        Drafts(verifier, opaque_tokens, key_lookups.look, read_index, replica, stores.sessions, rates),
        key_manager,
        waits,
        audit,
        publish=None if mirroring is None else mirroring.publish,
    )
    issuer = Issuer(
        stores.sessions,
        minter,
        keyring,
        terms,
        replica,
        issuer=options.issuer,
        entropy=entropy,
        audit=audit,
    )
    refresher = Refresher(
        stores.sessions,
        minter,
        keyring,
        terms,
        revoker,
        opaque_tokens,
        audit,
        signing_may_fail=options.signing_may_fail,
    )
    introspector = Introspector(
        verifier, replica, tailer, stores.sessions, opaque_tokens, subjects, rates, clock
    )
    registration = Registration(admission, options.issuer)

    def sealer(purpose: str) -> Sealer:
        return Sealer(keyring, key_lookups.look, entropy, purpose)

    codes = Codes(sealer("authorization code"), entropy)
    personal_access = PersonalAccessReader(stores.sessions, opaque_tokens, admission, clock)
    assertions = AssertionGrant(
        registration, issuer, introspector, tailer, replica, stores.used_ids, subjects, service=options.issuer
    )
    login = make_login_use_cases(
        admission,
        registration,
        codes,
        sealer,
        entropy,
        lambda: replica.applied,
        IdTokenHints(verifier, key_lookups.look, subjects),
        stores.sessions,
        issuer=options.issuer,
    )

    def can_log_in() -> bool:
        return bool(login.upstreams.current)

    device_codes = DeviceCodes(sealer("device code"), entropy)
    devices = DeviceUseCases(
        authorizations=DeviceAuthorizations(
            registration, device_codes, stores.device_requests, rates, can_log_in
        ),
        grant=DeviceGrant(
            registration,
            device_codes,
            stores.device_requests,
            issuer,
            revoker,
            audit,
            Paces(clock.monotonic),
            can_log_in,
        ),
        logins=DeviceLogins(
            login.logins,
            admission,
            stores.device_requests,
            rates,
            sealer("device page"),
            lambda: replica.applied,
        ),
    )
    return Core(
        options=options,
        ports=ports,
        policies=policies,
        counters=counters,
        clients=clients,
        known_clients=known_clients,
        keyring=keyring,
        key_rotation=key_rotation,
        key_manager=key_manager,
        subscribers=subscribers,
        reports=reports,
        waits=waits,
        log=log,
        time=time,
        replica=replica,
        read_index=read_index,
        confirmations=confirmations,
        tailer=tailer,
        key_lookups=key_lookups,
        verifier=verifier,
        mirroring=mirroring,
        minter=minter,
        subjects=subjects,
        issuer=issuer,
        refresher=refresher,
        grants=Grants(
            client_credentials=ClientCredentials(registration, issuer),
            code=CodeGrant(
                registration,
                codes,
                issuer,
                SessionRaiser(stores.sessions, stores.used_ids, minter, keyring, terms, audit),
                revoker,
                audit,
            ),
            device=devices.grant,
            refresh=RefreshGrant(registration, refresher),
            assertion=assertions,
            exchange=TokenExchange(
                registration,
                PresentedTokens(introspector, replica, {PERSONAL_ACCESS_TOKEN: personal_access.read}),
                terms,
                minter,
                audit,
                issuer=options.issuer,
            ),
        ),
        global_revocation=GlobalRevocation(
            revoker,
            lambda: assertions.trusted,
            stores.used_ids,
            service=options.issuer,
        ),
        authorization_grants=AuthorizationGrants(
            registration, admission, codes, replica, issuer=options.issuer
        ),
        login=login,
        devices=devices,
        upstream_logout=UpstreamLogout(
            lambda: login.upstreams.current, stores.sessions, revoker, stores.used_ids, audit
        ),
        revoker=revoker,
        token_revocation=TokenRevocation(revoker, opaque_tokens, stores.sessions),
        userinfo=UserInfo(introspector, stores.sessions, subjects, clock),
        end_session=EndSession(
            verifier,
            key_lookups.look,
            known_clients,
            stores.sessions,
            revoker,
            sealer("logout return"),
            lambda: login.upstreams.current,
            clock,
        ),
        backchannel_logout=None
        if ports.send_logout is None
        else make_backchannel_logout(
            LogoutPorts(
                stores.logouts,
                Lease(stores.leases, "logouts", options.node_id),
                ports.send_logout,
                ports.logout_counted,
                clock,
            ),
            log,
            tailer,
            replica,
            LogoutClients(clients),
            minter,
            keyring,
        ),
        introspector=introspector,
        sessions=Sessions(stores.sessions, rates),
        client_administration=ClientAdministration(
            stores.clients,
            policies,
            revoker.append,
            lambda revision: clients.refresh(revision=revision),
            entropy,
            audit,
            None if ports.pairwise_key is None else ports.sector_documents,
        ),
        session_updates=SessionUpdates(stores.sessions, minter, rates, audit),
        personal_access_tokens=PersonalAccessTokens(
            stores.sessions,
            minter,
            keyring,
            terms,
            revoker,
            issuer=options.issuer,
            entropy=entropy,
            audit=audit,
        ),
        janitor=Janitor(
            stores.sessions,
            log,
            stores.device_requests,
            Lease(stores.leases, "janitor", options.node_id),
            time,
            interval=options.janitor_interval,
            retention=options.session_retention,
        ),
        refusals=Refusals(audit, clock.monotonic),
        audit_keeper=AuditKeeper(
            stores.audit, Lease(stores.leases, "audit", options.node_id), clock, options.audit
        ),
        audit_reports=AuditReports(stores.audit, stores.sessions, stores.samples),
        sampler=CursorSampler(stores.samples, subscribers, clock),
    )
