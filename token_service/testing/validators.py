"""Validators for tests: they are ready when the `with` block begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Final, Protocol

from token_service.client.config import Freshness, ServiceIssuer, ValidatorConfig
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator

FRESHNESS: Final = Freshness(bound=2.0, probe_timeout=1.0)
"""Soon stale after an outage, and still far from the pauses of a busy machine."""
_READY: Final = 30.0


class _Issuer(Protocol):
    def service_issuer(self, **changes: Any) -> ServiceIssuer: ...


class ValidatorsMixin:
    """Validators of one issuer."""

    @contextmanager
    def validator(self: _Issuer, audience: str | None = None, **changes: Any) -> Iterator[SyncTokenValidator]:
        """Run a validator for threads. Keywords replace fields of `ServiceIssuer`. Raises its error if it is not ready."""
        config = ValidatorConfig(issuers=[self.service_issuer(**changes)], audience=audience)
        with SyncTokenValidator(config) as validator:
            validator.wait_ready(_READY, raise_on_timeout=True)
            yield validator

    @asynccontextmanager
    async def async_validator(
        self: _Issuer, audience: str | None = None, **changes: Any
    ) -> AsyncIterator[TokenValidator]:
        """Run a validator for an event loop, as `validator` does."""
        config = ValidatorConfig(issuers=[self.service_issuer(**changes)], audience=audience)
        async with TokenValidator(config) as validator:
            await validator.wait_ready(_READY, raise_on_timeout=True)
            yield validator
