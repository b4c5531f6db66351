"""Token validator for one event loop."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Collection
from types import TracebackType
from typing import Final, Self

import grpc

from token_service.client._internal.clock import Instant, ValidatorClock
from token_service.client._internal.connection import Connection
from token_service.client._internal.counters import Counters
from token_service.client._internal.explanation import Explanation, explain
from token_service.client._internal.following.follower import Follower
from token_service.client._internal.following.state import FollowerState
from token_service.client._internal.fork import ended, refuse, started
from token_service.client._internal.key_source import Fetch, KeySource
from token_service.client._internal.local import Answer, AskService, IssuerState, Known, Outcome, Request
from token_service.client._internal.remote import answer_of, validate_request
from token_service.client._internal.setup import Parts, RefreshLimit
from token_service.client._internal.single_flight import SingleFlight
from token_service.client._internal.status import ValidatorStatus, status_of, why_not_ready
from token_service.client.config import ForeignIssuer, ServiceIssuer, ValidatorConfig
from token_service.errors import ServiceError, ValidatorForkedError
from token_service.tokens.claims import VerifiedClaims
from token_service.v1.key_service_pb2 import GetKeySetRequest

logger: Final = logging.getLogger(__name__)


class TokenValidator:
    """Validator for one event loop: validates tokens locally and follows their revocations.

    async with TokenValidator(config) as validator:
        claims = await validator.validate(token, required_scopes=["read"])

    Entering the context starts to follow the token service and returns at once; `wait_ready` waits for its answer.
    """

    def __init__(
        self,
        config: ValidatorConfig,
        *,
        channel: grpc.aio.Channel | None = None,
        clock: ValidatorClock | None = None,
    ) -> None:
        """Configure the validator.

        `channel` replaces a connection to `ServiceIssuer.target`. It stays open when the validator is closed.
        """
        self._parts = Parts(config, clock)
        self._local = self._parts.local
        self._check = self._local.check
        self._audience = config.audience
        self._given_channel = channel
        self._service: _Service | None = None
        self._abandoned: _Service | None = None
        self._keys = {issuer.issuer: _ForeignKeys(issuer, self._parts) for issuer in self._parts.foreign}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def start(self) -> None:
        """Begin to follow the token service and to fetch foreign key sets.

        Raises `ConfigurationError` if `ServiceIssuer.credentials` can't be read.
        """
        parts = self._parts
        if parts.forked:
            raise ValidatorForkedError
        started(self)
        if parts.service is not None and parts.follower_state is not None:
            service = _Service(parts.service, parts.follower_state, parts, self._given_channel)
            await service.start()
            self._service = service
        for keys in self._keys.values():
            keys.start()

    async def close(self) -> None:
        """Stop following the token service and fetching key sets.

        The replica stays, and `validate` treats it as increasingly stale.
        """
        for keys in self._keys.values():
            await keys.close()
        if self._service is not None:
            await self._service.close()
            self._service = None
        ended(self)

    async def wait_ready(self, timeout: float | None = None, *, raise_on_timeout: bool = False) -> bool:
        """Wait until every issuer has keys and the replica is proven fresh; return False after `timeout`
        seconds.

        With `raise_on_timeout` it raises the error of `status().problem` instead: `UnreachableError` if the
        service can't be reached, another `ServiceError` if the service refuses, `ConfigurationError` if the
        service has another issuer, `ReplicaStaleError` if keys or a proof have not arrived yet. In a forked
        process it raises `ValidatorForkedError` at once.
        """
        try:
            async with asyncio.timeout(timeout):
                while not self._parts.is_ready:
                    if self._parts.forked:
                        raise ValidatorForkedError
                    await asyncio.sleep(0.01)
        except TimeoutError:
            if raise_on_timeout:
                raise why_not_ready(self._parts) from None
            return False
        return True

    @property
    def counters(self) -> Counters:
        """Counters of events since the creation of the validator."""
        return self._parts.counters

    @property
    def is_fresh(self) -> bool:
        """True while every issuer has keys and the replica is proven fresh."""
        return self._parts.is_ready

    def status(self) -> ValidatorStatus:
        """Return the state of this validator, with the problem if it is not ready. Makes no call."""
        return status_of(self._parts)

    async def validate(
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> VerifiedClaims:
        """Return the claims of a token that is valid now.

        `audience` replaces the configured audience. Raises `InvalidTokenError` with the reason if the token is
        invalid, `ReplicaStaleError` if the validator is not fresh enough to decide, `ValidatorForkedError` if
        this process was forked after `start`.
        """
        if audience is None:
            audience = self._audience
        result = self._check(token, audience, required_scopes)
        if type(result) is VerifiedClaims:
            return result
        return await self._settle(result, token, audience, required_scopes)

    def explain(
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> Explanation:
        """Explain every check of a token with its outcome, for operators.

        Makes no call. The explanation contains no usable part of the token.
        """
        return explain(self._parts, token, self._audience if audience is None else audience, required_scopes)

    def abandon(self) -> None:
        """Refuse every token from now on. `fork` calls this, because only the parent process gets updates."""
        self._parts.forked = True
        self._check = refuse
        self._abandoned, self._service = (
            self._service,
            None,
        )  # kept, because this process must not end its channel
        self._keys = {}

    async def _settle(
        self,
        missing: Known | IssuerState,
        token: str,
        audience: str | None,
        required_scopes: Collection[str],
    ) -> VerifiedClaims:
        steps = self._local.settle(missing, token, audience, required_scopes)
        outcome: Outcome = None
        while True:
            try:
                request = steps.send(outcome)
            except StopIteration as done:
                claims: VerifiedClaims = done.value
                return claims
            outcome = await self._perform(request)

    async def _perform(self, request: Request) -> Outcome:
        if isinstance(request, AskService):
            return await self._service.ask(request) if self._service is not None else None
        foreign = self._keys.get(request.issuer)
        if foreign is not None:
            return await foreign.refresh_for_unknown_key()
        return await self._service.refresh_for_unknown_key() if self._service is not None else False


class _Service:
    """Connection to the token service: the stream and the calls."""

    def __init__(
        self,
        issuer: ServiceIssuer,
        follower_state: FollowerState,
        parts: Parts,
        channel: grpc.aio.Channel | None,
    ) -> None:
        assert parts.contact is not None
        self._issuer = issuer
        self._follower_state = follower_state
        self._parts = parts
        self._counters = parts.counters
        self._connection = Connection(issuer, parts.contact, channel)
        self._follower: Follower | None = None
        self._asking: SingleFlight[AskService, Answer | None] = SingleFlight()
        self._refreshing: SingleFlight[str, bool] = SingleFlight()
        self._limit = RefreshLimit(issuer.key_refresh_interval, parts.clock)
        self._unanswered = False
        self._saving: asyncio.Task[None] | None = None

    async def start(self) -> None:
        if self._issuer.warm_start is not None:
            from token_service.client._internal.warm_start import restore

            restore(self._issuer.warm_start, self._follower_state, self._parts)
        await self._connection.open()
        self._follower = Follower(
            self._follower_state, self._connection, self._issuer, self._parts.name, self._counters
        )
        await self._follower.start()
        if self._issuer.warm_start is not None:
            self._saving = asyncio.create_task(self._save(), name="save-revocations")

    async def close(self) -> None:
        if self._saving is not None:
            self._saving.cancel()
            await asyncio.wait([self._saving])
        await self._asking.close()
        await self._refreshing.close()
        if self._follower is not None:
            await self._follower.close()
        if self._issuer.warm_start is not None:
            await self._save_once()
        await self._connection.close()

    async def ask(self, question: AskService) -> Answer | None:
        """Return the answer of the token service, or None without an answer."""
        if self._follower is not None:
            self._follower.nudge()
        if len(self._asking) >= self._issuer.max_remote_calls:
            return None
        return await self._asking.do(question, lambda: self._ask(question))

    async def refresh_for_unknown_key(self) -> bool | None:
        """Call GetKeySet if the last call is long enough ago, and return the outcome of `RefreshKeys`.

        Callers share a call in progress.
        """
        taken = False
        if len(self._refreshing) or self._limit.allows():
            taken = await self._refreshing.do("", self._refresh)
        return None if self._unanswered else taken

    async def _ask(self, question: AskService) -> Answer | None:
        self._counters.remote_calls += 1
        asked = Instant.of(self._parts.clock)
        try:
            response = await self._connection.call(
                "ValidateToken", validate_request(question), self._issuer.remote_timeout
            )
        except ServiceError as error:
            self._counters.remote_failures += 1
            logger.debug("ValidateToken failed: %s", error.reason.value)
            return None
        return answer_of(response, asked)

    async def _refresh(self) -> bool:
        self._counters.key_refreshes += 1
        try:
            response = await self._connection.call(
                "GetKeySet", GetKeySetRequest(), self._issuer.remote_timeout
            )
        except ServiceError as error:
            self._counters.key_refresh_failures += 1
            logger.debug("GetKeySet failed: %s", error.reason.value)
            self._unanswered = True
            return False
        self._unanswered = False
        return self._follower_state.take_key_set(response.key_set)

    async def _save(self) -> None:
        assert self._issuer.warm_start is not None
        while True:
            await asyncio.sleep(self._issuer.warm_start.interval)
            await self._save_once()

    async def _save_once(self) -> None:
        from token_service.client._internal.warm_start import Collector, write

        assert self._issuer.warm_start is not None
        collector = Collector(self._follower_state, self._parts)
        for _ in collector.steps():
            await asyncio.sleep(0)
        if collector.content is not None:
            path, key = self._issuer.warm_start.path, self._issuer.warm_start.mac_key
            await asyncio.to_thread(write, path, key, collector.content)


class _ForeignKeys:
    """Key set of one foreign issuer, fetched at an interval."""

    def __init__(self, issuer: ForeignIssuer, parts: Parts) -> None:
        self._issuer = issuer
        self._source = KeySource(issuer, parts)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._source.open()
        self._task = asyncio.create_task(self._keep(), name="keep-keys")

    async def close(self) -> None:
        self._source.close()
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])

    async def refresh_for_unknown_key(self) -> bool | None:
        """Fetch the key set if the interval allows it, and return the outcome of `RefreshKeys`."""
        fetch = self._source.begin_for_unknown_key()
        taken = fetch is not None and await self._wait(fetch)
        return taken if self._source.answers else None

    async def _wait(self, fetch: Fetch) -> bool:
        try:
            async with asyncio.timeout(fetch.left):
                await asyncio.wrap_future(fetch.done)
        except TimeoutError:
            self._source.give_up(fetch)
        return await asyncio.wrap_future(fetch.done)

    async def _keep(self) -> None:
        failures = 0
        while True:
            good = await self._wait(self._source.begin())
            failures = 0 if good else failures + 1
            spread = random.random()  # noqa: S311  # spreads load
            delay = self._issuer.refresh_interval * (0.9 + spread / 10)
            await asyncio.sleep(self._issuer.retry.delay(failures - 1, spread) if failures else delay)
