"""The running gateway: the configuration in use, its reload, and what health pages read."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from token_service.client.validator import TokenValidator
from token_service.errors import ConfigurationError
from token_service.gateway.ext_authz import ExtAuthz
from token_service.gateway.http import Auth, Metadata
from token_service.gateway.loading import Loaded, Parts, build, load
from token_service.gateway.metrics import GatewayReading, Metrics
from token_service.tokens.possession import MAX_PROOF_AGE, PROOF_LEEWAY, PossessionChecker
from token_service.tokens.replays import Replays

logger = logging.getLogger(__name__)


class Gateway:
    """A gateway without its servers, as an async context manager."""

    def __init__(self, path: Path, loaded: Loaded, metrics: Metrics) -> None:
        """Configure the gateway. `path` is the file to reload."""
        self._path = path
        self._metrics = metrics
        # Outlives reloads, because to forget the proofs would admit their repetition.
        self._replays = Replays(MAX_PROOF_AGE + 2 * PROOF_LEEWAY)
        self._parts = self._build(loaded, TokenValidator(loaded.validator))
        self._asked = asyncio.Event()
        self.stopping = False
        metrics.watch(self._reading)

    async def __aenter__(self) -> Self:
        await self._parts.validator.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._parts.validator.close()

    @property
    def loaded(self) -> Loaded:
        """The configuration in use."""
        return self._parts.loaded

    @property
    def ext_authz(self) -> ExtAuthz:
        """The answers to Envoy."""
        return self._parts.ext_authz

    @property
    def auth(self) -> Auth:
        """The answers of `/auth`."""
        return self._parts.auth

    @property
    def metadata(self) -> Metadata | None:
        """The metadata of the resource."""
        return self._parts.metadata

    def readiness(self) -> tuple[bool, Mapping[str, object]]:
        """Return whether the gateway can judge tokens, and why not."""
        status, settings = self._parts.validator.status(), self._parts.loaded.settings
        ready = status.ready and not self.stopping
        issuers: list[dict[str, object]] = []
        if settings.issuer is not None:
            issuers.append(
                {
                    "issuer": status.issuer,
                    "ready": status.fresh and status.issuer not in status.issuers_without_keys,
                    "has_keys": status.issuer not in status.issuers_without_keys,
                    "staleness_seconds": None if status.staleness is None else round(status.staleness, 3),
                    "freshness_bound_seconds": settings.issuer.freshness_bound,
                    "connected": status.connected,
                    "keys_revision": status.keys_revision,
                }
            )
        issuers += [
            {
                "issuer": each.issuer,
                "ready": each.issuer not in status.issuers_without_keys,
                "has_keys": each.issuer not in status.issuers_without_keys,
            }
            for each in settings.foreign_issuers
        ]
        problem = "the gateway is stopping" if self.stopping else status.problem
        return ready, {"ready": ready, "problem": problem, "issuers": issuers}

    async def reload(self) -> None:
        """Read the file again and use it, if it is good and differs. Otherwise the old configuration stays in use."""
        try:
            outcome = await self._reload()
        except ConfigurationError as error:
            logger.error(  # noqa: TRY400  # a stack says nothing about a file
                "kept the configuration, because the new one has an error: %s", error.message
            )
            outcome = "failed"
        except Exception:
            logger.exception(
                "kept the configuration, because the reload failed; this is a defect, please report it"
            )
            outcome = "failed"
        self._metrics.reloaded(outcome)

    def ask_reload(self) -> None:
        """Let `watch` reload the file now."""
        self._asked.set()

    async def watch(self) -> None:
        """Reload the file when it changes and when `ask_reload` is called, until this task is cancelled."""
        seen = self.loaded.digest
        while True:
            interval = self.loaded.settings.reload.interval
            with suppress(TimeoutError):
                async with asyncio.timeout(interval or None):
                    await self._asked.wait()
            digest = await asyncio.to_thread(self._digest)
            if self._asked.is_set() or digest != seen:
                self._asked.clear()
                seen = digest
                await self.reload()

    def _digest(self) -> bytes:
        """Return a value that differs for another content of the file, good or bad."""
        try:
            return load(self._path).digest
        except Exception as error:  # noqa: BLE001  # `reload` reports it
            return repr(error).encode()

    async def _reload(self) -> str:
        loaded = await asyncio.to_thread(load, self._path)
        old = self._parts
        if loaded.digest == old.loaded.digest:
            return "unchanged"
        if _bound_once(loaded) != _bound_once(old.loaded):
            logger.warning(
                "changed `listen` and `limits.request_bytes` take effect after a restart of the gateway"
            )
        if loaded.validator == old.loaded.validator:
            self._parts = self._build(loaded, old.validator)
            logger.info("loaded the changed configuration")
            return "applied"
        validator = TokenValidator(loaded.validator)
        try:
            await validator.start()
            ready = await validator.wait_ready(loaded.settings.reload.ready_timeout)
            if not ready and old.validator.is_fresh:
                problem = validator.status().problem
                raise ConfigurationError(f"the new issuers are not ready; reload again later: {problem}")
        except BaseException:
            await validator.close()
            raise
        self._parts = self._build(loaded, validator)
        logger.info("loaded the changed configuration, with other issuers")
        try:
            await asyncio.sleep(old.loaded.settings.limits.deadline)  # running checks use the old validator
        finally:
            await old.validator.close()
        return "applied"

    def _build(self, loaded: Loaded, validator: TokenValidator) -> Parts:
        return build(loaded, validator, PossessionChecker(nonces=loaded.nonces, replays=self._replays))

    def _reading(self) -> GatewayReading:
        parts = self._parts
        return GatewayReading(
            parts.validator.status(),
            parts.validator.counters,
            cached=len(parts.validator._parts.local.cache),  # noqa: SLF001  # of interest to this page only
            waiting=parts.checker.waiting,
            claims_omitted=parts.identity.claims_omitted,
        )


def _bound_once(loaded: Loaded) -> tuple[object, ...]:
    """Return the settings that the servers read when they start."""
    return loaded.settings.listen, loaded.settings.limits.request_bytes
