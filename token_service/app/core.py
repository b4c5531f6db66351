"""Composition of the use cases of one node.

The running node, the command-line commands and the tests call `build_core` with their own ports.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.app.cluster import ClusterParts, ClusterUseCases, make_cluster_use_cases
from token_service.app.event_streams import (
    EventStreamParts,
    EventStreamUseCases,
    make_event_stream_use_cases,
)
from token_service.app.oauth import OAuthParts, OAuthUseCases, make_oauth_use_cases
from token_service.app.ports import CoreOptions, Ports
from token_service.app.webhooks import WebhookUseCases, make_webhook_use_cases
from token_service.core.access.counters import Counters
from token_service.core.access.document_clients import DocumentClients
from token_service.core.access.key_proofs import KeyProofs
from token_service.core.access.quotas import RateQuota
from token_service.core.access.rates import Rates
from token_service.core.access.refusals import Refusals
from token_service.core.administration.automatic.enforcer import EnforcerSources, LimitEnforcer
from token_service.core.administration.automatic.preview import AutomaticPreviews, AutomaticSources
from token_service.core.administration.automatic.thresholds import ThresholdHandler
from token_service.core.administration.clients import ClientAdministration
from token_service.core.administration.external_revocations import ExternalRevocations
from token_service.core.administration.policies import PolicyAdministration
from token_service.core.administration.subjects.erasure import ErasureStores, SubjectErasure
from token_service.core.administration.subjects.export import SubjectExport, SubjectSources
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import SecurityProfile
from token_service.core.clients.lookup import Clients
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.clients.profile import ProfileRules, policy_in_force, proof_algorithms
from token_service.core.clients.registry import ClientRegistry
from token_service.core.events.consumer import EventConsumer
from token_service.core.events.feed import EventFeed
from token_service.core.events.keeper import AuditKeeper
from token_service.core.issuing.issuer import Issuer
from token_service.core.issuing.minter import Minter
from token_service.core.issuing.personal_access_tokens import PersonalAccessTokens
from token_service.core.issuing.refresher import Refresher
from token_service.core.issuing.risk_control import RiskControl
from token_service.core.issuing.session_updates import SessionUpdates
from token_service.core.issuing.terms import Terms
from token_service.core.keys.announcement import Announcement
from token_service.core.keys.dpop_nonces import ServiceNonces
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
from token_service.core.overrides.registry import OverrideRegistry
from token_service.core.policies.policies import Policies
from token_service.core.reports.access import AccessReports
from token_service.core.reports.audit import AuditReports
from token_service.core.reports.configuration import ConfigurationReports
from token_service.core.reports.event_readers import EventReaders
from token_service.core.reports.previews import PreviewSources, RevocationPreviews
from token_service.core.reports.revocations import LiveRevocations
from token_service.core.revocation.bulk import BulkRevocation
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
from token_service.core.risk.watch import RiskWatch
from token_service.core.security_events.poller import SecurityEventPoller
from token_service.core.security_events.receiver import SecurityEventReceiver
from token_service.core.sessions.browsing import Sessions
from token_service.core.subscribers.refusal_reports import RefusalReports
from token_service.core.subscribers.registry import Subscribers
from token_service.core.subscribers.reports import Reports
from token_service.core.subscribers.samples import CursorSampler
from token_service.core.subscribers.validations import ValidationReports
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
    overrides: OverrideRegistry
    counters: Counters
    rates: Rates
    risk: RiskWatch
    clients: ClientRegistry
    known_clients: Clients
    """The registered clients, and those that describe themselves in a metadata document, if the ports fetch these."""
    keyring: Keyring
    key_rotation: KeyRotation
    key_manager: KeyManager
    subscribers: Subscribers
    reports: Reports
    waits: Waits
    validations: ValidationReports
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
    security_events: SecurityEventReceiver
    security_event_poller: SecurityEventPoller
    token_revocation: TokenRevocation
    backchannel_logout: BackchannelLogout | None
    introspector: Introspector
    key_proofs: KeyProofs
    sessions: Sessions
    bulk_revocation: BulkRevocation
    live_revocations: LiveRevocations
    revocation_previews: RevocationPreviews
    client_administration: ClientAdministration
    policy_administration: PolicyAdministration
    refusal_reports: RefusalReports
    limit_enforcer: LimitEnforcer
    threshold_handler: ThresholdHandler
    thresholds: EventConsumer
    automatic_previews: AutomaticPreviews
    subject_export: SubjectExport
    subject_erasure: SubjectErasure
    access_reports: AccessReports
    configuration_reports: ConfigurationReports
    session_updates: SessionUpdates
    personal_access_tokens: PersonalAccessTokens
    janitor: Janitor
    refusals: Refusals
    audit_keeper: AuditKeeper
    event_feed: EventFeed
    event_readers: EventReaders
    ssf: EventStreamUseCases
    """The event streams of receivers (Shared Signals Framework)."""
    webhooks: WebhookUseCases
    audit_reports: AuditReports
    cluster: ClusterUseCases
    sampler: CursorSampler

    async def start(self) -> None:
        """Load the keys and the replica; the first node of a database makes its first keys.

        Raises `ConfigurationError` for a damaged database and for overrides that contradict the policy file, and
        `StoreUnavailableError`.
        """
        await self.key_rotation.ensure()
        await self.time.resume(self.ports.stores.leases)
        await self.tailer.start()
        self.overrides.require_in_force()

    def background(self) -> Mapping[str, Callable[[], Coroutine[Any, Any, None]]]:
        """Return the background tasks by name. Each runs until cancelled; a task that fails ends the node."""
        tasks = {
            "tailer": self.tailer.run,
            "subscriber-reports": self.reports.run,
            "key-rotation": self.key_rotation.run,
            "janitor": self.janitor.run,
            "audit-keeper": self.audit_keeper.run,
            "event-feed": self.event_feed.run,
            "ssf-transmitter": self.ssf.transmitter.run,
            "webhooks": self.webhooks.delivery.run,
            "cursor-samples": self.sampler.run,
            "limits-on-sessions": self.limit_enforcer.run,
            "thresholds": self.thresholds.run,
            "refusal-reports": self.refusal_reports.run,
            "security-event-poller": self.security_event_poller.run,
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
    clients = ClientRegistry(stores.clients, options.security_profile)
    known_clients: Clients = clients
    if ports.client_documents is not None:
        known_clients = DocumentClients(clients, ports.client_documents, options.client_documents, clock)
    policies.classify_by(known_clients.classification)
    policies.adapt_by(lambda client_id, policy: policy_in_force(policy, known_clients.get(client_id)))
    overrides = OverrideRegistry(stores.policies, policies)
    keyring = Keyring(
        stores.keys, ports.wrap, options.rotation.algorithm, open_signer=ports.key_provider.open_signer
    )
    subscribers = Subscribers(clock)
    reports = Reports(options.node_id, stores.nodes, subscribers, clock)
    waits = Waits(subscribers, reports, clock)
    validations = ValidationReports(clock)
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
    log = FailoverLog(stores.log, clock, entropy, audit, accepts_loss=options.accepts_loss)
    time = SteadyTime(clock)
    replica = Replica()
    read_index = ReadIndex(log)
    confirmations = Confirmations(read_index, replica, subscribers, validations)
    tailer = Tailer(
        log,
        replica,
        read_index,
        RevisionedCopies(keyring, clients, overrides),
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
        admitted=ports.rate_admitted,
    )
    admission = ClientAdmission(
        known_clients,
        policies,
        require_registered=options.require_registered_clients
        or options.security_profile is not SecurityProfile.NONE,
        signs_with=lambda: keyring.signer().algorithm,
    )
    drafts = Drafts(verifier, opaque_tokens, key_lookups.look, read_index, replica, stores.sessions, rates)
    revoker = Revoker(
        log,
        tailer,
        read_index,
        drafts,
        key_manager,
        waits,
        audit,
        publish=None if mirroring is None else mirroring.publish,
    )
    external_revocations = ExternalRevocations(stores.sessions, revoker, audit)
    security_events = SecurityEventReceiver(external_revocations, stores.used_ids, audit, clock)
    risk = RiskControl(
        RiskWatch(counters, clock.monotonic, log=lambda: replica.epoch),
        stores.sessions,
        keyring,
        policies,
        revoker,
        audit,
        clock.monotonic,
    )
    terms = Terms(admission, rates, risk)
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
    key_proofs = KeyProofs(
        policies,
        stores.used_ids,
        clock,
        ServiceNonces(keyring).current,
        lambda client_id: proof_algorithms(known_clients.get(client_id)),
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
            external_revocations=external_revocations,
            introspector=introspector,
            key_proofs=key_proofs,
        )
    )
    backchannel_logout = (
        None
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
        )
    )
    janitor = Janitor(
        stores.sessions,
        log,
        stores.device_requests,
        Lease(stores.leases, "janitor", options.node_id),
        time,
        audit,
        interval=options.janitor_interval,
        retention=options.session_retention,
    )
    event_feed = EventFeed(stores.events, clock)
    ssf = make_event_stream_use_cases(
        EventStreamParts(ports, options.node_id, options.issuer, clients, subjects, minter, event_feed)
    )
    limit_enforcer = LimitEnforcer(
        EnforcerSources(ports.files.automatic_rules, policies, lambda: clients.revision, stores.walk, log),
        revoker.append_counted,
        audit,
        Lease(stores.leases, "automatic-revocation", options.node_id),
        clock,
    )
    threshold_handler = ThresholdHandler(
        ports.files.automatic_rules, stores.audit, revoker.append_counted, audit, clock
    )
    audit_keeper = AuditKeeper(
        stores.audit, stores.events, Lease(stores.leases, "audit", options.node_id), clock, options.audit
    )
    return Core(
        options=options,
        ports=ports,
        policies=policies,
        overrides=overrides,
        counters=counters,
        rates=rates,
        risk=risk.watch,
        clients=clients,
        known_clients=known_clients,
        keyring=keyring,
        key_rotation=key_rotation,
        key_manager=key_manager,
        subscribers=subscribers,
        reports=reports,
        waits=waits,
        validations=validations,
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
        security_events=security_events,
        security_event_poller=SecurityEventPoller(security_events, stores.leases, options.node_id),
        token_revocation=TokenRevocation(revoker, opaque_tokens, stores.sessions),
        backchannel_logout=backchannel_logout,
        introspector=introspector,
        key_proofs=key_proofs,
        sessions=Sessions(stores.sessions, rates, risk.admit_extension),
        bulk_revocation=BulkRevocation(stores.selections, revoker.append_counted, rates, audit),
        live_revocations=LiveRevocations(stores.entries, stores.audit),
        revocation_previews=RevocationPreviews(
            PreviewSources(
                drafts=drafts,
                sessions=stores.sessions,
                selections=stores.selections,
                entries=stores.entries,
                replica=replica,
                keys=table,
                reports=reports,
                policies=policies,
            )
        ),
        client_administration=ClientAdministration(
            stores.clients,
            policies,
            revoker.append,
            lambda revision: clients.refresh(revision=revision),
            entropy,
            audit,
            None if ports.pairwise_key is None else ports.sector_documents,
            ProfileRules(options.security_profile, options.rotation.algorithm),
        ),
        policy_administration=PolicyAdministration(
            stores.policies,
            policies,
            overrides,
            ports.files.parse_policies,
            ports.files.policy_problem,
            audit,
        ),
        refusal_reports=RefusalReports(validations, audit),
        limit_enforcer=limit_enforcer,
        threshold_handler=threshold_handler,
        thresholds=EventConsumer(
            "thresholds",
            stores.events,
            event_feed,
            Lease(stores.leases, "thresholds", options.node_id),
            threshold_handler.handle,
        ),
        automatic_previews=AutomaticPreviews(
            AutomaticSources(ports.files.automatic_rules, policies, stores.walk, stores.audit)
        ),
        subject_export=SubjectExport(
            SubjectSources(stores.subjects, stores.sessions, stores.entries, stores.audit), audit
        ),
        subject_erasure=SubjectErasure(
            ErasureStores(stores.subjects, stores.entries, stores.audit),
            revoker.carry_out,
            audit,
            tell_clients=None if backchannel_logout is None else backchannel_logout.tell,
        ),
        access_reports=AccessReports(ports.files.callers, clients),
        configuration_reports=ConfigurationReports(ports.files.configuration),
        session_updates=SessionUpdates(stores.sessions, minter, rates, audit, issuer=options.issuer),
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
        janitor=janitor,
        refusals=Refusals(audit, clock.monotonic),
        event_feed=event_feed,
        event_readers=EventReaders(event_feed),
        ssf=ssf,
        webhooks=make_webhook_use_cases(ports, event_feed, options),
        audit_keeper=audit_keeper,
        audit_reports=AuditReports(stores.audit, stores.sessions, stores.samples, validations.of),
        cluster=make_cluster_use_cases(
            ClusterParts(
                stores=stores,
                clock=clock,
                reports=reports,
                subscribers=subscribers,
                validations=validations,
                replica=replica,
                read_index=read_index,
                tailer=tailer,
                keyring=keyring,
                clients=clients,
                jobs={
                    "janitor": janitor,
                    "keys": key_rotation,
                    "logouts": backchannel_logout,
                    "audit": audit_keeper,
                },
            ),
            options,
        ),
        sampler=CursorSampler(stores.samples, subscribers, clock),
    )
