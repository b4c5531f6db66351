"""docs/limits.md lists every limit with its default."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from token_service.config import values
from token_service.core import limits
from token_service.core.access import client_authentication, credentials, document_clients, foreign_issuers
from token_service.core.clients import documents as client_documents, sectors
from token_service.core.grants import (
    codes,
    device_authorization,
    device_paces,
    global_revocation,
    subjects,
    trusted_issuers,
)
from token_service.core.login import devices, logins, oidc, oidc_settings, pushed, requests, upstreams
from token_service.core.logout import delivering, planner
from token_service.core.policies import rights
from token_service.core.subscribers import registry as validators
from token_service.fetching import documents, fetcher, logouts, oidc_provider, remote_keys, resolving
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.tokens import assertions, sealed
from token_service.web import forwarded
from token_service.web.connections import ConnectionLimits
from token_service.web.edge import RequestLimits
from token_service.web.oauth import global_revocation as web_global_revocation, login_cookies, parameters

NO_LIMITS = {"EARLY_LEEWAY", "MAX_NUMERIC_DATE"}
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
    found |= {field.name: getattr(remote_keys.PACE, field.name) for field in fields(remote_keys.PACE)}
    for module, *names in (
        (validators, "SILENT_AFTER", "MAX_FOREIGN_PER_CALLER"),
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
        (codes, "CODE_TTL"),
        (sealed, "MAX_SEALED"),
    ):
        found |= {name: getattr(module, name) for name in names}
    return {name: f"{value:g}" if isinstance(value, float) else str(value) for name, value in found.items()}


def test_page_lists_every_limit_with_its_default() -> None:
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| [^|]+ \| [^|]+ \|$", PAGE.read_text(), re.MULTILINE)
    assert len(dict(rows)) == len(rows), "a limit is listed twice"
    on_the_page = dict(rows)
    code = in_the_code()
    assert {name: on_the_page.get(name) for name in code} == code
