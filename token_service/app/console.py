"""Composition of the operators' console."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TypeAlias

from starlette.routing import Route

from token_service.app.core import Core
from token_service.config import Settings
from token_service.core.access.operators import OperatorEntry
from token_service.core.keys.administration import SigningKeys
from token_service.core.keys.sealer import Sealer
from token_service.core.reports.recent_anomalies import RecentAnomalies
from token_service.web.console.access import ConsoleAccess, OpenAccess
from token_service.web.console.client import ConsoleClient
from token_service.web.console.console import PATH, Console
from token_service.web.console.guard import FormTokens
from token_service.web.console.history import METRICS, History, Values
from token_service.web.console.login import CALLBACK, CodeFlowAccess, origin_of_url
from token_service.web.console.page import Page
from token_service.web.console.pages.anomalies import AnomaliesPage
from token_service.web.console.pages.audit import AuditPages
from token_service.web.console.pages.clients import ClientsPage
from token_service.web.console.pages.keys import KeysPage
from token_service.web.console.pages.overview import OverviewPage
from token_service.web.console.pages.policies import PoliciesPage
from token_service.web.console.pages.policy_changes import PolicyChanges
from token_service.web.console.pages.propagation import PropagationPage
from token_service.web.console.pages.revocations import RevocationsPage
from token_service.web.console.pages.session_revocation import SessionRevocation
from token_service.web.console.pages.sessions import SessionsPage
from token_service.web.console.pages.subscribers import SubscribersPage
from token_service.web.console.sessions import ConsoleSessions
from token_service.web.edge import HttpEdge
from token_service.web.oauth.discovery import issuer_path

Operators: TypeAlias = Callable[[], Mapping[str, OperatorEntry]]
"""Returns the operators of the policy file in force."""


def console_history(core: Core, read: Callable[[Collection[str]], Values]) -> History:
    """Make the history of the charts, which must run. `read` returns the present values of some metrics."""
    return History(lambda: read(METRICS), core.ports.clock, core.options.identity.host)


def console_pages(core: Core, history: History) -> Sequence[Page]:
    """Return the pages in the order of the navigation. Each gets only the use cases that it needs."""
    policies = core.policy_administration
    return [
        OverviewPage(core.cluster.overview, history).page(),
        SubscribersPage(core.cluster.subscribers).page(),
        PropagationPage(core.cluster.overview).page(),
        SessionsPage(core.sessions, SessionRevocation(core.bulk_revocation)).page(),
        RevocationsPage(
            core.live_revocations, core.revocation_previews, core.revoker, core.cluster.arrivals
        ).page(),
        ClientsPage(core.client_administration, core.revocation_previews).page(),
        KeysPage(core.cluster.overview, SigningKeys(core.keyring, core.key_manager)).page(),
        PoliciesPage(policies, PolicyChanges(policies)).page(),
        AnomaliesPage(RecentAnomalies(core.ports.stores.audit)).page(),
        AuditPages(core.audit_reports).page(),
    ]


def make_console(core: Core, access: ConsoleAccess, pages: Sequence[Page], base: str = PATH) -> Console:
    """Compose the console, without I/O."""
    sealer = Sealer(core.keyring, core.key_lookups.look, core.ports.entropy, "console form")
    return Console(pages, access, FormTokens(sealer), core.refusals, core.ports.clock, base=base)


def make_console_routes(
    core: Core, settings: Settings, operators: Operators, history: History, edge: HttpEdge
) -> list[Route]:
    """Return the routes of the console; none in production without a client for the login.

    The core need not be started.
    """
    if not settings.has_console:
        return []
    base = f"{issuer_path(core.options.issuer)}{PATH}"
    access: ConsoleAccess = OpenAccess()
    if settings.console_client_id is not None:
        access = code_flow_access(core, settings.console_client_id, operators, base)
    return make_console(core, access, console_pages(core, history), base).routes(edge)


def code_flow_access(core: Core, client_id: str, operators: Operators, base: str = PATH) -> CodeFlowAccess:
    """Compose the login of the console, as the client `client_id`."""
    ports, issuer = core.ports, core.options.issuer
    client = ConsoleClient(
        client_id,
        f"{origin_of_url(issuer)}{base}/{CALLBACK}",
        core.clients,
        (core.oauth.grants.code, core.oauth.grants.refresh),
        core.token_revocation,
        ports.clock.now,
    )

    def sealer(purpose: str) -> Sealer:
        return Sealer(core.keyring, core.key_lookups.look, ports.entropy, purpose)

    sessions = ConsoleSessions(
        client, sealer("console session"), core.introspector, ports.clock, issuer=issuer
    )
    return CodeFlowAccess(
        client,
        sessions,
        operators,
        sealer("console login"),
        core.introspector,
        ports.entropy,
        ports.clock,
        issuer=issuer,
    )
