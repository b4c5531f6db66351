"""Key set of a foreign issuer, for both validators."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from typing import Final

from token_service.client._internal.http_fetch import fetch_over_http
from token_service.client._internal.keys import parse_jwks
from token_service.client._internal.setup import Parts, RefreshLimit
from token_service.client.config import ForeignIssuer

logger = logging.getLogger(__name__)

_MAX_RUNNING: Final = 4
"""Most fetch threads of one issuer. More than one is busy only if a fetch outlives its timeout."""
_MAX_CAUSE: Final = 300


class UnusableKeySetError(ValueError):
    """A key set without a usable key."""


class Fetch:
    """A fetch that callers await until its deadline."""

    __slots__ = ("_deadline", "done", "ended")

    def __init__(self, timeout: float) -> None:
        self.ended = False
        self.done: Future[bool] = Future()
        """Whether the fetch returned a usable key set."""
        self.done.set_running_or_notify_cancel()  # a cancelled caller must not cancel the result of the others
        self._deadline = time.monotonic() + timeout

    @property
    def left(self) -> float:
        """Seconds until the deadline."""
        return max(0.0, self._deadline - time.monotonic())


class KeySource:
    """HTTP key set of one foreign issuer. Only a usable key set replaces the current one.

    A fetch runs in its own thread, and callers join a fetch in progress. A caller waits at most
    `ForeignIssuer.timeout`, or until `close`; then it calls `give_up`. Any thread may call the methods; none of
    them waits.
    """

    def __init__(self, issuer: ForeignIssuer, parts: Parts) -> None:
        self._issuer = issuer
        self._local = parts.local
        self._counters = parts.counters
        self._limit = RefreshLimit(issuer.unknown_key_interval, parts.clock)
        self._lock = threading.Lock()
        self._current: Fetch | None = None
        self._running = 0
        self._closed = False
        self._answered = False
        self._reported = ""
        self._taking = threading.Lock()  # separate from `_lock`, because reading a key set takes milliseconds
        self._last = b""
        self._last_usable = False
        self._revision = 0

    @property
    def answers(self) -> bool:
        """Whether the last fetch returned a usable key set."""
        return self._answered and not self._closed

    def open(self) -> None:
        """Allow fetches after `close`."""
        with self._lock:
            self._closed = False

    def close(self) -> None:
        """Release all waiting callers and refuse further fetches. Drops the result of a fetch in progress."""
        with self._lock:
            self._closed = True
            fetch, self._current = self._current, None
            if fetch is not None:
                fetch.ended = True
                fetch.done.set_result(False)

    def begin(self) -> Fetch:
        """Begin a fetch, or join the fetch in progress."""
        fetch = self._begin(lambda: True)
        assert fetch is not None
        return fetch

    def begin_for_unknown_key(self) -> Fetch | None:
        """Begin or join a fetch; return None if the last fetch for this reason is too recent to begin another."""
        return self._begin(self._limit.allows)

    def give_up(self, fetch: Fetch) -> None:
        """End a fetch as failed because its deadline has passed."""
        self._fail(fetch, TimeoutError(f"no complete answer within {self._issuer.timeout:g} s"))

    def _begin(self, allowed: Callable[[], bool]) -> Fetch | None:
        with self._lock:
            overdue = self._current
            if overdue is not None and overdue.left > 0:
                return overdue
            if not allowed():
                return None
            fetch = Fetch(self._issuer.timeout)
            if self._closed:
                fetch.ended = True
                fetch.done.set_result(False)
                return fetch
            self._current = fetch
            self._counters.key_refreshes += 1
            may_run = self._running < _MAX_RUNNING
            self._running += may_run
        if overdue is not None:
            self.give_up(overdue)
        if not may_run:
            self._fail(fetch, TimeoutError(f"{_MAX_RUNNING} earlier fetches have not returned yet"))
            return fetch
        try:
            threading.Thread(target=self._run, args=(fetch,), name="fetch-keys", daemon=True).start()
        except RuntimeError as error:  # the system has no more threads
            self._returned()
            self._fail(fetch, error)
        return fetch

    def _run(self, fetch: Fetch) -> None:
        try:
            fetch_data = self._issuer.fetch or fetch_over_http
            data = fetch_data(self._issuer.jwks_url, self._issuer.timeout)
            with self._taking:
                if fetch.ended:
                    return  # too late: a later fetch may have received newer keys
                self._take(data)
        except BaseException as error:  # noqa: BLE001  # a fetch given by the caller may raise anything
            self._fail(fetch, error)
        else:
            self._succeed(fetch)
        finally:
            self._returned()

    def _take(self, data: object) -> None:
        if not isinstance(data, bytes):
            raise TypeError(f"the fetch returned {type(data).__name__}, not bytes")
        if data != self._last:
            jwks = parse_jwks(data)
            self._last_usable = self._local.replace_keys(self._issuer.issuer, jwks, self._revision + 1)
            self._last = data
            if self._last_usable:
                self._revision += 1
                self._counters.key_sets += 1
        if not self._last_usable:
            raise UnusableKeySetError("the key set has no usable key")

    def _succeed(self, fetch: Fetch) -> None:
        if not self._end(fetch, good=True):
            return
        if self._reported:
            self._reported = ""
            logger.info("fetching the key set of %s succeeds again", self._issuer.issuer)
        fetch.done.set_result(True)

    def _fail(self, fetch: Fetch, error: BaseException) -> None:
        if not self._end(fetch, good=False):
            return
        if isinstance(error, UnusableKeySetError):
            self._counters.key_sets_refused += 1
        else:
            self._counters.key_refresh_failures += 1
        cause = _cause_of(error)
        if cause != self._reported:  # log a cause once, not at every attempt
            self._reported = cause
            logger.warning(
                "fetching the key set of %s failed: %s; the current key set stays, and tokens with other keys can't be"
                " validated until a fetch succeeds",
                self._issuer.issuer,
                cause,
            )
        fetch.done.set_result(False)

    def _end(self, fetch: Fetch, *, good: bool) -> bool:
        """Set the result of a fetch; return False if it was already set.

        Waiting callers get the result after it is counted and logged, outside of the lock.
        """
        with self._lock:
            if fetch.ended:
                return False
            fetch.ended = True
            if fetch is self._current:
                self._current = None
            self._answered = good
            return True

    def _returned(self) -> None:
        with self._lock:
            self._running -= 1


def _cause_of(error: BaseException) -> str:
    """Format the error in one line. The text may come from a server, so it is escaped and shortened."""
    try:
        text = str(error)
    except Exception:  # noqa: BLE001  # an error of a fetch given by the caller may be anything
        text = ""
    line = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:_MAX_CAUSE])
    return f"{type(error).__name__}: {line}"
