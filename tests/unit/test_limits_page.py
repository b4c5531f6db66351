"""docs/limits.md lists every limit with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from token_service.config import values
from token_service.core import limits
from token_service.core.access import (
    client_authentication,
    credentials,
    document_clients,
    foreign_issuers,
    operators,
)
from token_service.core.administration import policies, webhooks as webhook_administration
from token_service.core.clients import documents as client_documents, sectors
from token_service.core.events import filter as event_filter, log as event_log
from token_service.core.events.webhooks import payload, schedule, webhook
from token_service.core.grants import (
    codes,
    device_authorization,
    device_paces,
    global_revocation,
    subjects,
    trusted_issuers,
)
from token_service.core.issuing import reuse, risk_control
from token_service.core.login import devices, logins, oidc, oidc_settings, pushed, requests, upstreams
from token_service.core.logout import delivering, planner
from token_service.core.policies import rights
from token_service.core.reports.cluster import subscribers as cluster_subscribers
from token_service.core.reports.trail import uses as trail_uses
from token_service.core.revocation import bulk, entries
from token_service.core.risk import history as risk_history, watch as risk_watch
from token_service.core.security_events import (
    polling as event_polling,
    receiver as event_receiver,
    subjects as event_subjects,
)
from token_service.core.sessions import browsing, selection
from token_service.core.subscribers import lists, registry as validators, validations
from token_service.fetching import (
    address_databases,
    documents,
    fetcher,
    logouts,
    oidc_provider,
    remote_keys,
    resolving,
    security_event_polls,
    webhooks as webhook_posts,
)
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.stream import event_readers
from token_service.stores.sql.engine import turns
from token_service.tokens import assertions, dpop, http_uri, possession, replays, sealed, security_event_token
from token_service.web import forwarded
from token_service.web.connections import ConnectionLimits
from token_service.web.console import history, login, sessions
from token_service.web.console.pages import (
    anomalies as console_anomalies,
    audit as console_audit,
    policies as console_policies,
    subscribers as console_subscribers,
)
from token_service.web.edge import RequestLimits
from token_service.web.oauth import global_revocation as web_global_revocation, login_cookies, parameters

NO_LIMITS = {"ASSERTION_LEEWAY", "MAX_NUMERIC_DATE"}
"""Numbers in the modules with limits that limit no caller."""
PAGE = Path(__file__).parents[2] / "docs" / "limits.md"


def in_the_code() -> dict[str, str]:
    found: dict[str, object] = {
        field.name: field.default
        for kind in (GrpcLimits, ConnectionLimits, RequestLimits)
        for field in fields(kind)
    }
    for module in (
        limits, client_authentication, credentials, foreign_issuers, assertions, rights, documents, fetcher, resolving,
        document_clients, client_documents, sectors, parameters,
    ):  # fmt: skip
        found |= {
            name: value
            for name, value in vars(module).items()
            if not name.startswith("_") and isinstance(value, int | float) and name not in NO_LIMITS
        }
    found |= {"MAX_HOPS": forwarded.MAX_HOPS, "MAX_NETWORKS": values.MAX_NETWORKS}
    found |= {
        "CONSOLE_SESSION": sessions.MAX_AGE,
        "CONSOLE_LOGIN": login.LOGIN_TTL,
        "CONSOLE_COOKIE": sessions.MAX_COOKIE,
        "CONSOLE_RENEWALS": sessions.MAX_RENEWALS,
        "CONSOLE_SAMPLES": history.SAMPLES,
        "CONSOLE_INTERVAL": history.INTERVAL,
        "CONSOLE_PAGE": console_subscribers.PAGE_SIZE,
        "CONSOLE_POLICY_FORM": console_policies.MAX_FORM,
        "CONSOLE_VERIFICATION": console_audit.VERIFY_WITHIN,
        "CONSOLE_ANOMALIES": console_anomalies.READ_WITHIN,
    }
    found |= {field.name: getattr(remote_keys.PACE, field.name) for field in fields(remote_keys.PACE)}
    for module, *names in (
        (validators, "SILENT_AFTER", "MAX_FOREIGN_PER_CALLER"),
        (turns, "MAX_LONG_READS"),
        (security_event_token, "MAX_EVENTS", "MAX_SET_ID", "MAX_EVENT_TYPE"),
        (event_subjects, "MAX_ALIASES"),
        (event_receiver, "EVENTS_PER_MINUTE"),
        (event_polling, "MAX_POLLED"),
        (security_event_polls, "POLL_TIMEOUT"),
        (address_databases, "MAX_ADDRESS_DATABASE"),
        (risk_watch, "MAX_MARKS"),
        (risk_history, "MAX_ORIGINS"),
        (reuse, "MAX_RACES"),
        (risk_control, "STEP_UP_MAX_AGE"),
        (trail_uses, "MAX_USES"),
        (event_readers, "MAX_EVENT_READERS", "MAX_EVENT_READERS_PER_CALLER"),
        (event_filter, "MAX_EVENT_CONDITIONS"),
        (webhook, "MAX_WEBHOOKS", "MAX_URL", "MAX_DESCRIPTION"),
        (payload, "MAX_PAYLOAD"),
        (schedule, "MAX_DEAD_LETTERS", "DEAD_LETTER_RETENTION", "DISABLE_AFTER"),
        (webhook_administration, "MAX_OVERLAP"),
        (webhook_posts, "WEBHOOK_TIMEOUT", "MAX_WEBHOOK_ANSWER"),
        (event_log, "MAX_EVENTS_READ"),
        (policies, "MAX_CHECKS", "MAX_DIFFERENCES"),
        (
            validations,
            "MAX_REPORTING",
            "MAX_REPORTING_PER_CALLER",
            "MAX_REFUSALS",
            "MAX_COUNT",
        ),
        (lists, "MAX_LISTED", "LIST_WAIT"),
        (entries, "MAX_ENTRIES_EXAMINED"),
        (selection, "LIVE_SAMPLE", "MAX_SESSIONS_COUNTED", "MAX_SESSIONS_EXAMINED"),
        (browsing, "MAX_SESSIONS_LISTED"),
        (bulk, "MAX_SESSIONS_REVOKED"),
        (cluster_subscribers, "MAX_SUBSCRIBERS_PAGE", "DEFAULT_SUBSCRIBERS_PAGE"),
        (trusted_issuers, "MAX_NAMES", "MAX_AGE"),
        (subjects, "MAX_VALUES", "MAX_PATH"),
        (upstreams, "MAX_UPSTREAMS"),
        (oidc_settings, "MAX_ACR_ENTRIES"),
        (oidc, "MAX_IDENTITY_BYTES"),
        (oidc_provider, "UPSTREAM_TIMEOUT", "UPSTREAM_LAST_GOOD", "UPSTREAM_RETRY", "MAX_SECRET"),
        (global_revocation, "MAX_REVOCATION_LIFETIME"),
        (device_authorization, "MAX_REQUESTS_OF_CLIENT", "MAX_REQUESTS_OF_ADDRESS"),
        (devices, "MAX_CODES_OF_ADDRESS", "MAX_CODES_OF_BROWSER"),
        (device_paces, "MAX_INTERVAL", "MAX_PACES"),
        (web_global_revocation, "MAX_REVOCATION_BODY"),
        (planner, "MAX_SESSIONS_TOLD"),
        (delivering, "MAX_CLIENTS_TOLD", "LOGOUTS_PER_CLIENT", "LOGOUT_MAX_AGE"),
        (logouts, "LOGOUT_TIMEOUT"),
        (requests, "MAX_STATE", "MAX_LOGIN_HINT", "MAX_ACR_VALUES", "MAX_AUTHENTICATION_AGE"),
        (login_cookies, "MAX_COOKIE", "MAX_LOGINS", "MAX_COOKIES"),
        (logins, "LOGIN_TTL"),
        (pushed, "REQUEST_URI_TTL"),
        (operators, "MAX_OPERATORS", "MAX_OPERATOR_NAMES"),
        (codes, "CODE_TTL"),
        (sealed, "MAX_SEALED"),
        (dpop, "MAX_PROOF_BYTES", "MAX_PROOF_ID"),
        (http_uri, "MAX_HTTP_URI"),
        (possession, "MAX_PROOF_AGE", "PROOF_LEEWAY"),
        (replays, "MAX_REMEMBERED_PROOFS"),
    ):
        found |= {name: getattr(module, name) for name in names}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in found.items()}


def test_page_lists_every_limit_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a limit is listed twice"
    on_the_page = dict(rows)
    code = in_the_code()
    assert {name: on_the_page.get(name) for name in code} == code
