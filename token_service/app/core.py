"""Composition of the use cases of one node.

The running node, the command-line commands and the tests call `build_core` with their own ports.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.app.oauth import OAuthParts, OAuthUseCases, make_oauth_use_cases
from token_service.app.ports import CoreOptions, Ports
from token_service.core.access.counters import Counters
from token_service.core.access.document_clients import DocumentClients
from token_service.core.access.quotas import RateQuota
from token_service.core.access.rates import Rates
from token_service.core.access.refusals import Refusals
from token_service.core.administration.clients import ClientAdministration
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.lookup import Clients
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.clients.registry import ClientRegistry
from token_service.core.events.keeper import AuditKeeper
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.minter import Minter
from token_service.core.issuing.personal_access_tokens import PersonalAccessTokens
from token_service.core.issuing.refresher import Refresher
from token_service.core.issuing.session_updates import SessionUpdates
from token_service.core.issuing.terms import Terms
from token_service.core.keys.announcement import Announcement
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.making import KeyMaker
from token_service.core.keys.manager import KeyManager
from token_service.core.keys.opaque_tokens import OpaqueTokens
from token_service.core.keys.rotation import KeyRotation
from token_service.core.keys.table import KeyTable
from token_service.core.leases import Lease
from token_service.core.logout.backchannel import BackchannelLogout, LogoutPorts, make_backchannel_logout
from token_service.core.logout.clients import LogoutClients
from token_service.core.maintenance.janitor import Janitor
from token_service.core.policies.policy import Policies
from token_service.core.reports.audit import AuditReports
from token_service.core.revocation.confirmations import Confirmations
from token_service.core.revocation.drafts import Drafts
from token_service.core.revocation.failover_log import FailoverLog
from token_service.core.revocation.key_lookups import KeyLookups
from token_service.core.revocation.log import RevocationLog
from token_service.core.revocation.mirroring import Mirroring
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.revisions import RevisionedCopies
from token_service.core.revocation.revoker import Revoker
from token_service.core.revocation.steady_time import SteadyTime
from token_service.core.revocation.tailer import Tailer
from token_service.core.revocation.token_revocation import TokenRevocation
from token_service.core.sessions.browsing import Sessions
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.reports import Reports
from token_service.core.subscribers.samples import CursorSampler
from token_service.core.subscribers.waits import Waits
from token_service.core.validation.introspector import Introspector
from token_service.tokens.claims import TokenKind
from token_service.tokens.key_set import KeySet
from token_service.tokens.verifier import IssuerRules, Verifier

_REVOCATION_WINDOW: Final = 60.0
_OWN_KINDS: Final = frozenset({TokenKind.ACCESS, TokenKind.ID, TokenKind.TRANSACTION})
"""The JWTs that a node verifies."""


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
    oauth: OAuthUseCases
    revoker: Revoker
    token_revocation: TokenRevocation
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
    oauth = make_oauth_use_cases(
        OAuthParts(
            ports=ports,
            service=options.issuer,
            clients=known_clients,
            admission=admission,
            terms=terms,
            keyring=keyring,
            key_lookups=key_lookups,
            verifier=verifier,
            replica=replica,
            tailer=tailer,
            subjects=subjects,
            minter=minter,
            opaque_tokens=opaque_tokens,
            issuer=issuer,
            refresher=refresher,
            revoker=revoker,
            introspector=introspector,
        )
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
        oauth=oauth,
        revoker=revoker,
        token_revocation=TokenRevocation(revoker, opaque_tokens, stores.sessions),
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
