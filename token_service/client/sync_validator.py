"""Token validator for programs with threads."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Final, Self

import grpc

from token_service.client._internal.clock import Instant, ValidatorClock
from token_service.client._internal.connection import SyncConnection
from token_service.client._internal.counters import Counters
from token_service.client._internal.explanation import Explanation, explain
from token_service.client._internal.following.state import FollowerState
from token_service.client._internal.following.thread_follower import ThreadFollower
from token_service.client._internal.fork import ended, refuse, started
from token_service.client._internal.key_source import Fetch, KeySource
from token_service.client._internal.local import Answer, AskService, IssuerState, Known, Outcome, Request
from token_service.client._internal.remote import answer_of, validate_request
from token_service.client._internal.setup import Parts, RefreshLimit
from token_service.client._internal.single_flight import ThreadSingleFlight
from token_service.client._internal.status import ValidatorStatus, status_of, why_not_ready
from token_service.client.config import ForeignIssuer, ServiceIssuer, ValidatorConfig
from token_service.errors import ServiceError, ValidatorForkedError
from token_service.tokens.claims import VerifiedClaims
from token_service.v1.key_service_pb2 import GetKeySetRequest

logger: Final = logging.getLogger(__name__)


class SyncTokenValidator:
    """`TokenValidator` for threads. Any number of threads may call `validate` concurrently.

    with SyncTokenValidator(config) as validator:
        claims = validator.validate(token, required_scopes=["read"])
    """

    def __init__(
        self,
        config: ValidatorConfig,
        *,
        channel: grpc.Channel | None = None,
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

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Begin to follow the token service and to fetch foreign key sets.

        Raises `ConfigurationError` if `ServiceIssuer.credentials` can't be read.
        """
        parts = self._parts
        if parts.forked:
            raise ValidatorForkedError
        started(self)
        if parts.service is not None and parts.follower_state is not None:
            service = _Service(parts.service, parts.follower_state, parts, self._given_channel)
            service.start()
            self._service = service
        for keys in self._keys.values():
            keys.start()

    def close(self) -> None:
        """Stop following the token service and fetching key sets.

        The replica stays, and `validate` treats it as increasingly stale.
        """
        for keys in self._keys.values():
            keys.close()
        if self._service is not None:
            self._service.close()
            self._service = None
        ended(self)

    def wait_ready(self, timeout: float | None = None, *, raise_on_timeout: bool = False) -> bool:
        """Wait as `TokenValidator.wait_ready` does."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._parts.is_ready:
            if self._parts.forked:
                raise ValidatorForkedError
            if deadline is not None and time.monotonic() >= deadline:
                if raise_on_timeout:
                    raise why_not_ready(self._parts)
                return False
            time.sleep(0.01)
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

    def validate(
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
        return self._settle(result, token, audience, required_scopes)

    def validate_locally(
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> VerifiedClaims | None:
        """Validate as `validate` does, but return None instead of waiting for the network.

        For threads that must not wait. Raises `InvalidTokenError`.
        """
        result = self._check(token, self._audience if audience is None else audience, required_scopes)
        return result if type(result) is VerifiedClaims else None

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

    def _settle(
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
            outcome = self._perform(request)

    def _perform(self, request: Request) -> Outcome:
        if isinstance(request, AskService):
            return self._service.ask(request) if self._service is not None else None
        foreign = self._keys.get(request.issuer)
        if foreign is not None:
            return foreign.refresh_for_unknown_key()
        return self._service.refresh_for_unknown_key() if self._service is not None else False


class _Service:
    """Connection to the token service: the stream and the calls."""

    def __init__(
        self, issuer: ServiceIssuer, follower_state: FollowerState, parts: Parts, channel: grpc.Channel | None
    ) -> None:
        assert parts.contact is not None
        self._issuer = issuer
        self._follower_state = follower_state
        self._parts = parts
        self._counters = parts.counters
        self._connection = SyncConnection(issuer, parts.contact, channel)
        self._follower: ThreadFollower | None = None
        self._asking: ThreadSingleFlight[AskService, Answer | None] = ThreadSingleFlight()
        self._refreshing: ThreadSingleFlight[str, bool] = ThreadSingleFlight()
        self._limit = RefreshLimit(issuer.key_refresh_interval, parts.clock)
        self._unanswered = False
        self._saving: _Repeater | None = None

    def start(self) -> None:
        warm = self._issuer.warm_start
        if warm is not None:
            from token_service.client._internal.warm_start import restore

            restore(warm, self._follower_state, self._parts)
        self._connection.open()
        self._follower = ThreadFollower(
            self._follower_state, self._connection, self._issuer, self._parts.name, self._counters
        )
        self._follower.start()
        if warm is not None:
            interval = warm.interval

            def save() -> float:
                self._save()
                return interval

            self._saving = _Repeater("save-revocations", save, delay=interval)
            self._saving.start()

    def close(self) -> None:
        if self._saving is not None:
            self._saving.close()
        if self._follower is not None:
            self._follower.close()
        if self._issuer.warm_start is not None:
            self._save()
        self._connection.close()

    def ask(self, question: AskService) -> Answer | None:
        """Return the answer of the token service, or None without an answer."""
        if self._follower is not None:
            self._follower.nudge()
        return self._asking.do_if(self._may_ask, question, lambda: self._ask(question))

    def _may_ask(self) -> bool:
        return len(self._asking) < self._issuer.max_remote_calls

    def refresh_for_unknown_key(self) -> bool | None:
        """Call GetKeySet if the last call is long enough ago, and return the outcome of `RefreshKeys`.

        Callers share a call in progress.
        """
        taken = self._refreshing.do_if(self._limit.allows, "", self._refresh)
        return None if self._unanswered else bool(taken)

    def _ask(self, question: AskService) -> Answer | None:
        self._counters.remote_calls += 1
        asked = Instant.of(self._parts.clock)
        try:
            response = self._connection.call(
                "ValidateToken", validate_request(question), self._issuer.remote_timeout
            )
        except ServiceError as error:
            self._counters.remote_failures += 1
            logger.debug("ValidateToken failed: %s", error.reason.value)
            return None
        except ValueError:  # the channel was closed during the call
            return None
        return answer_of(response, asked)

    def _refresh(self) -> bool:
        self._counters.key_refreshes += 1
        try:
            response = self._connection.call("GetKeySet", GetKeySetRequest(), self._issuer.remote_timeout)
        except ServiceError as error:
            self._counters.key_refresh_failures += 1
            logger.debug("GetKeySet failed: %s", error.reason.value)
            self._unanswered = True
            return False
        except ValueError:  # as above
            self._unanswered = True
            return False
        self._unanswered = False
        assert self._follower is not None
        return self._follower.take_key_set(response.key_set)

    def _save(self) -> None:
        from token_service.client._internal.warm_start import Collector, write

        warm = self._issuer.warm_start
        if warm is None or self._follower is None:
            return
        with self._follower.writing:
            collector = Collector(self._follower_state, self._parts)
            steps = collector.steps()
        done = False
        while not done:
            with self._follower.writing:
                done = next(steps, steps) is steps
        if collector.content is not None:
            write(warm.path, warm.mac_key, collector.content)


class _ForeignKeys:
    """Key set of one foreign issuer, fetched at an interval."""

    def __init__(self, issuer: ForeignIssuer, parts: Parts) -> None:
        self._issuer = issuer
        self._source = KeySource(issuer, parts)
        self._failures = 0
        self._repeater = _Repeater("keep-keys", self._keep)

    def start(self) -> None:
        self._source.open()
        self._repeater.start()

    def close(self) -> None:
        self._source.close()  # first: it releases the thread of the repeater
        self._repeater.close()

    def refresh_for_unknown_key(self) -> bool | None:
        """Fetch the key set if the interval allows it, and return the outcome of `RefreshKeys`."""
        fetch = self._source.begin_for_unknown_key()
        taken = fetch is not None and self._wait(fetch)
        return taken if self._source.answers else None

    def _wait(self, fetch: Fetch) -> bool:
        try:
            return fetch.done.result(fetch.left)
        except TimeoutError:
            self._source.give_up(fetch)
            return fetch.done.result()

    def _keep(self) -> float:
        good = self._wait(self._source.begin())
        self._failures = 0 if good else self._failures + 1
        spread = random.random()  # noqa: S311  # spreads load
        if self._failures:
            return self._issuer.retry.delay(self._failures - 1, spread)
        return self._issuer.refresh_interval * (0.9 + spread / 10)


class _Repeater:
    """Thread that repeats its work. Each run returns the seconds until the next one."""

    def __init__(self, name: str, work: Callable[[], float], delay: float = 0.0) -> None:
        self._work = work
        self._delay = delay
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        delay = self._delay
        while not self._stopping.wait(delay):
            delay = self._work()
