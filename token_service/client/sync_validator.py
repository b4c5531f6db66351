"""Validates tokens locally, for programs with threads."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Collection
from types import TracebackType
from typing import Self

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

logger = logging.getLogger(__name__)


class SyncTokenValidator:
    """`TokenValidator` for threads: any number of them may call `validate` at once, and none waits for
    another.

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
        """`channel`: used instead of opening one to `ServiceIssuer.target`; stays open when the validator is
        closed.
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
        """Begin to follow the service and to fetch foreign key sets.

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
        """Stop everything that was started.

        What is known stays; `validate` then treats it as ever more stale.
        """
        for keys in self._keys.values():
            keys.close()
        if self._service is not None:
            self._service.close()
            self._service = None
        ended(self)

    def wait_ready(self, timeout: float | None = None, *, raise_on_timeout: bool = False) -> bool:
        """As `TokenValidator.wait_ready`."""
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
        """What happened so far."""
        return self._parts.counters

    @property
    def is_fresh(self) -> bool:
        """Whether what is known is proven fresh right now."""
        return self._parts.is_ready

    def status(self) -> ValidatorStatus:
        """How this validator is doing, and what is wrong if it is not ready. Asks nobody."""
        return status_of(self._parts)

    def validate(
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> VerifiedClaims:
        """The claims of a token that is good now.

        `audience` replaces the configured one. Raises `InvalidTokenError` with the reason if the token is not
        good, `ReplicaStaleError` if that can't be known well enough now, `ValidatorForkedError` if this
        process was forked after `start`.
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
        """As `validate`, without waiting for the network: None where it would be asked.

        For threads that must not wait. Raises `InvalidTokenError`.
        """
        result = self._check(token, self._audience if audience is None else audience, required_scopes)
        return result if type(result) is VerifiedClaims else None

    def explain(
        self, token: str, *, audience: str | None = None, required_scopes: Collection[str] = ()
    ) -> Explanation:
        """Every check with its outcome and what is known, for operators.

        Asks nobody; shows no part of the token that could be used as one.
        """
        return explain(self._parts, token, self._audience if audience is None else audience, required_scopes)

    def abandon(self) -> None:
        """Refuse everything from now on, for `fork`: what keeps this validator up to date is in the parent."""
        self._parts.forked = True
        self._check = refuse
        self._abandoned, self._service = self._service, None  # kept: its channel must not be touched here
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
    """The token service: its stream and the calls made to it."""

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
        """The service's answer; None if there is none."""
        if self._follower is not None:
            self._follower.nudge()
        return self._asking.do_if(self._may_ask, question, lambda: self._ask(question))

    def _may_ask(self) -> bool:
        return len(self._asking) < self._issuer.max_remote_calls

    def refresh_for_unknown_key(self) -> bool | None:
        """GetKeySet, if the last one is long enough ago; callers that come while it is under way share it.

        The outcome of `RefreshKeys`.
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
            logger.debug("the service did not answer: %s", error.reason.value)
            return None
        except ValueError:  # the channel was closed meanwhile
            return None
        return answer_of(response, asked)

    def _refresh(self) -> bool:
        self._counters.key_refreshes += 1
        try:
            response = self._connection.call("GetKeySet", GetKeySetRequest(), self._issuer.remote_timeout)
        except ServiceError as error:
            self._counters.key_refresh_failures += 1
            logger.debug("the key set was not answered: %s", error.reason.value)
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
    """The key set of one foreign issuer, kept up to date."""

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
        """The outcome of `RefreshKeys`."""
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
    """A thread that does something again and again; each time says in how many seconds the next one is."""

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
