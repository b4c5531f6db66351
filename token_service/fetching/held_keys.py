"""Keys that were loaded once and are loaded again, by any number of concurrent calls."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from contextvars import Context
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

from token_service.clock import Clock
from token_service.errors import ForeignKeysUnavailableError
from token_service.fetching.documents import parse_key_set
from token_service.fetching.failure import FetchError
from token_service.tokens.key_set import KeySet

_AHEAD: Final = 0.8
"""The part of the lifetime after which keys are loaded again in the background."""
_MAX_CAUSE: Final = 300
_MAX_LOGGED_KEYS: Final = 5

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Pace:
    """How often a source is loaded, in seconds."""

    timeout: float
    """For a whole load."""
    unknown_key_interval: float
    """Between two loads that unknown keys cause."""
    longest_retry: float
    """The delay after failures, which begins with a second and doubles."""
    last_good: float
    """For which the last keys stay in force after their lifetime, while loading fails."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """A key set as the source has it, and the seconds for which it counts as current."""

    document: bytes
    lifetime: float


@dataclass(frozen=True, slots=True)
class _Held:
    loaded: Loaded
    keys: KeySet
    since: float
    """When the load began, because the keys may be as old as that."""

    def has(self, key_id: str | None) -> bool:
        return key_id is None or bool(self.keys.get(key_id))


class HeldKeys(ABC):
    """A `KeySource` that holds the last keys of a source. One event loop uses it, and `async with` ends its task."""

    def __init__(self, name: str, pace: Pace, clock: Clock) -> None:
        """`name`: of the source, for the log."""
        self._name = name
        self._pace = pace
        self._clock = clock
        self._held: _Held | None = None
        self._running: asyncio.Task[None] | None = None
        self._begun = 0
        self._ended = 0
        """The number of the last load that began, and of the last that ended. Only one runs at a time."""
        self._failures = 0
        """The failed loads since the last success."""
        self._failed_at = float("-inf")
        self._next_load = float("-inf")
        self._next_for_unknown_key = float("-inf")
        self._complaint = ""
        self._closed = False

    @abstractmethod
    async def _load(self) -> Loaded:
        """Load the keys from the source. Raises `FetchError`."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the running load and begin no other. Calls that wait for it get `ForeignKeysUnavailableError`."""
        self._closed = True
        if self._running is not None:
            self._running.cancel()
            await asyncio.wait([self._running])

    async def keys(self, key_id: str | None) -> KeySet:
        """Return the current keys, as `KeySource` describes."""
        asked = self._begun
        while (held := self._current()) is None or not held.has(key_id):
            # A load that began before this call may miss a key that its issuer published in between. So it can't prove
            # that the key is unknown, and the call waits for the next load.
            load = self._running
            if self._ended > asked or not (load or self._may_load(unknown_key=held is not None)):
                return self._verdict(held)
            # Unlike `await load`, this does not cancel it for others.
            await asyncio.wait([load or self._begin(unknown_key=held is not None)])
        if self._age(held) >= _AHEAD * held.loaded.lifetime and not self._running and self._may_load():
            self._begin()
        return held.keys

    def _verdict(self, held: _Held | None) -> KeySet:
        """Return the keys that lack the key asked for, or raise the error that says that they may have it."""
        if held is None or self._failures or self._closed:
            delay = max(1.0, self._next_load - self._clock.monotonic())
            raise ForeignKeysUnavailableError(retry_after=delay)
        return held.keys

    def _current(self) -> _Held | None:
        """Return the keys in force, if any.

        After their lifetime these are the last keys only if a load failed a short time ago. Without that condition,
        keys withdrawn long ago would be in force for the first call after a pause.
        """
        held = self._held
        if held is None or (age := self._age(held)) < held.loaded.lifetime:
            return held
        recently = 2 * (self._pace.longest_retry + self._pace.timeout)
        is_failing = self._failures > 0 and self._clock.monotonic() - self._failed_at <= recently
        return held if is_failing and age < held.loaded.lifetime + self._pace.last_good else None

    def _age(self, held: _Held) -> float:
        return self._clock.monotonic() - held.since

    def _may_load(self, *, unknown_key: bool = False) -> bool:
        now = self._clock.monotonic()
        allowed = now >= self._next_load and (not unknown_key or now >= self._next_for_unknown_key)
        return allowed and not self._closed

    def _begin(self, *, unknown_key: bool = False) -> asyncio.Task[None]:
        if unknown_key:
            self._next_for_unknown_key = self._clock.monotonic() + self._pace.unknown_key_interval
        self._begun += 1
        # The load belongs to no call, so it has the context of none.
        self._running = asyncio.create_task(self._run(), name="load-keys", context=Context())
        self._running.add_done_callback(self._done)
        return self._running

    def _done(self, load: asyncio.Task[None]) -> None:
        self._ended = self._begun
        self._running = None

    async def _run(self) -> None:
        since = self._clock.monotonic()
        try:
            async with asyncio.timeout(self._pace.timeout):
                loaded = await self._load()
                keys = await self._parse(loaded.document)
        except TimeoutError:
            self._fail(f"no complete answer within {self._pace.timeout:g} s")
        except FetchError as error:
            self._fail(str(error))
        except Exception as error:  # noqa: BLE001 - a defect must not end the source
            self._fail(f"{type(error).__name__}: {error}")
        else:
            self._succeed(_Held(loaded, keys, since))

    async def _parse(self, document: bytes) -> KeySet:
        held = self._held
        if held is not None and held.loaded.document == document:
            return held.keys
        # A hundred RSA keys take some milliseconds.
        return await asyncio.to_thread(parse_key_set, document, self._begun)

    def _succeed(self, held: _Held) -> None:
        previous, self._held = self._held, held
        self._failures = 0
        if self._complaint:
            self._complaint = ""
            logger.info("the keys of %s are available again", self._name)
        if previous is None or previous.keys is not held.keys:
            self._log_refused(held.keys)

    def _fail(self, cause: str) -> None:
        self._failures += 1
        self._failed_at = self._clock.monotonic()
        self._next_load = self._failed_at + min(2.0 ** min(self._failures - 1, 30), self._pace.longest_retry)
        # The text may come from a server, so it can't forge lines, and a cause is logged once.
        cause = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cause[:_MAX_CAUSE])
        if cause == self._complaint:
            return
        self._complaint = cause
        logger.warning("the keys of %s can't be loaded: %s; %s", self._name, cause, self._consequence())

    def _consequence(self) -> str:
        held = self._held
        if held is None:
            return "tokens that they verify are refused until a load succeeds"
        if self._pace.last_good == float("inf"):
            return "the last keys stay in force until a load succeeds"
        left = max(0.0, held.loaded.lifetime + self._pace.last_good - self._age(held))
        return f"the last keys stay in force for {left:.0f} s at most"

    def _log_refused(self, keys: KeySet) -> None:
        if keys.refused:
            shown = "; ".join(f"{key.key_id}: {key.why}" for key in keys.refused[:_MAX_LOGGED_KEYS])
            level = logging.WARNING if any(key.weak for key in keys.refused) else logging.INFO
            count = len(keys.refused)
            logger.log(level, "%d keys of %s verify no tokens here: %s", count, self._name, shown)
