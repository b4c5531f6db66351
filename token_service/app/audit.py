"""The stored audit trail of a database, for commands that need no running node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from token_service.app.adapters import audit_keys_of, open_stores
from token_service.app.administration import operator
from token_service.config import Settings
from token_service.core.access.caller import Caller
from token_service.core.events.store import AuditStore
from token_service.core.reports.audit import AuditReports


@dataclass(frozen=True, slots=True)
class AuditTrail:
    """The audit trail, and the operator who uses it."""

    store: AuditStore
    reports: AuditReports
    operator: Caller


@asynccontextmanager
async def open_trail(settings: Settings) -> AsyncIterator[AuditTrail]:
    """Open the trail of the configured database. Raises `ConfigurationError`, `StoreUnavailableError`."""
    async with open_stores(settings, await audit_keys_of(settings)) as stores:
        await stores.require_current()
        yield AuditTrail(
            stores.audit, AuditReports(stores.audit, stores.sessions, stores.samples), operator()
        )
