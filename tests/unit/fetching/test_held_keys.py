from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from contextvars import ContextVar

import pytest

from tests.support.deadline import eventually
from tests.unit.core.virtual_time import ManualClock, cancelled, virtual_time
from tests.unit.fetching.serving import key_set
from token_service.errors import ForeignKeysUnavailableError
from token_service.fetching.failure import FetchError
from token_service.fetching.held_keys import HeldKeys, Loaded, Pace
from token_service.tokens.key_set import KeySet

LIFETIME = 600.0
PACE = Pace(timeout=5.0, unknown_key_interval=10.0, longest_retry=10.0, last_good=3600.0)
CALL: ContextVar[str] = ContextVar("CALL", default="no call")
LOGGER = "token_service.fetching.held_keys"


class Source(HeldKeys):
    """Keys that a test publishes. A load reads them when it begins, and ends when the test opens the gate."""

    def __init__(self, *names: str) -> None:
        self.clock = ManualClock()
        super().__init__("the issuer", PACE, self.clock)
        self.document: bytes | Exception = key_set(*names)
        self.loads = 0
        self.call = ""
        self.gate = asyncio.Event()
        self.gate.set()

    async def _load(self) -> Loaded:
        self.loads += 1
        self.call = CALL.get()
        document = self.document
        await self.gate.wait()
        if isinstance(document, Exception):
            raise document
        return Loaded(document, LIFETIME)

    def publish(self, *names: str) -> None:
        self.document = key_set(*names)

    def fail(self, cause: str = "the server is away") -> None:
        self.document = FetchError(cause)

    def ask(self, key_id: str | None = None) -> asyncio.Future[KeySet]:
        return asyncio.ensure_future(self.keys(key_id))

    async def quiet(self) -> None:
        await eventually(lambda: self._running is None)


@asynccontextmanager
async def holding(*names: str) -> AsyncIterator[Source]:
    """Yield a source that has loaded these keys."""
    async with Source(*names) as source:
        await source.keys(None)
        yield source


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[list[str]]:
    """The log lines so far."""
    caplog.set_level(logging.INFO, LOGGER)
    found: list[str] = []

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            found.append(record.getMessage())

    handler = Collect()
    logging.getLogger(LOGGER).addHandler(handler)
    yield found
    logging.getLogger(LOGGER).removeHandler(handler)


def kids(keys: KeySet) -> set[str]:
    return {key.key_id for key in keys}


async def test_keys_are_loaded_on_first_use_and_kept() -> None:
    async with Source("a") as source:
        assert source.loads == 0
        first = await source.keys("a")
        source.clock.elapsed += 0.79 * LIFETIME
        assert kids(first) == {"a"}
        assert await source.keys("a") is first
        assert await source.keys(None) is first
        await source.quiet()
        assert source.loads == 1


async def test_refresh_ahead_does_not_block_callers() -> None:
    async with holding("a") as source:
        source.publish("b")
        source.gate.clear()
        source.clock.elapsed += 0.8 * LIFETIME
        assert kids(await source.keys("a")) == {"a"}
        assert kids(await source.keys("a")) == {"a"}
        await eventually(lambda: source.loads == 2)
        source.gate.set()
        await source.quiet()
        assert kids(await source.keys(None)) == {"b"}
        assert source.loads == 2


async def test_keys_after_their_lifetime_are_not_used_without_a_new_load() -> None:
    async with holding("withdrawn") as source:
        source.publish("b")
        source.clock.elapsed += LIFETIME
        assert kids(await source.keys("withdrawn")) == {"b"}


async def test_lifetime_counts_from_the_beginning_of_the_load() -> None:
    async with Source("a") as source:
        source.gate.clear()
        first = source.ask()
        await eventually(lambda: source.loads == 1)
        source.clock.elapsed += 100
        source.gate.set()
        await first
        source.publish("b")
        source.clock.elapsed += LIFETIME - 100
        assert kids(await source.keys(None)) == {"b"}


async def test_concurrent_callers_share_one_load() -> None:
    async with Source("a") as source:
        source.gate.clear()
        callers = [source.ask("a") for _ in range(10)]
        await eventually(lambda: source.loads == 1)
        source.gate.set()
        assert len(set(map(id, await asyncio.gather(*callers)))) == 1
        assert source.loads == 1


async def test_cancelled_caller_does_not_cancel_the_load_of_others() -> None:
    async with Source("a") as source:
        source.gate.clear()
        first, second = asyncio.ensure_future(source.keys("a")), source.ask("a")
        await eventually(lambda: source.loads == 1)
        await cancelled(first)
        source.gate.set()
        assert kids(await second) == {"a"}
        assert source.loads == 1


async def test_load_has_the_context_of_no_caller() -> None:
    async with Source("a") as source:
        CALL.set("the first caller")
        await source.keys("a")
        assert source.call == "no call"


async def test_unknown_key_causes_a_load_and_gets_the_new_keys() -> None:
    async with holding("old") as source:
        source.publish("old", "new")
        assert kids(await source.keys("new")) == {"old", "new"}
        assert source.loads == 2


async def test_unknown_keys_cause_one_load_in_ten_seconds() -> None:
    async with holding("a") as source:
        for number in range(5):
            assert kids(await source.keys(f"unknown {number}")) == {"a"}
            source.clock.elapsed += 1.9
        assert source.loads == 2
        source.publish("b")
        source.clock.elapsed = 10.0
        assert kids(await source.keys("b")) == {"b"}
        assert source.loads == 3


async def test_load_that_began_before_the_call_does_not_prove_that_a_key_is_unknown() -> None:
    async with holding("old") as source:
        source.gate.clear()
        source.clock.elapsed += 0.8 * LIFETIME
        await source.keys("old")  # begins a load in the background
        await eventually(lambda: source.loads == 2)
        source.publish("old", "new")
        callers = [source.ask("new") for _ in range(5)]
        source.gate.set()
        for keys in await asyncio.gather(*callers):
            assert kids(keys) == {"old", "new"}
        assert source.loads == 3


async def test_load_that_brings_the_key_is_enough_whenever_it_began() -> None:
    async with holding("old") as source:
        source.gate.clear()
        source.publish("old", "new")
        source.clock.elapsed += 0.8 * LIFETIME
        await source.keys("old")
        await eventually(lambda: source.loads == 2)
        caller = source.ask("new")
        source.gate.set()
        assert kids(await caller) == {"old", "new"}
        assert source.loads == 2


async def test_first_load_fails_typed_and_without_its_cause() -> None:
    async with Source() as source:
        source.fail("10.0.0.7 refused the connection")
        with pytest.raises(ForeignKeysUnavailableError) as caught:
            await source.keys("a")
        assert caught.value.retry_after == 1.0
        assert "10.0.0.7" not in f"{caught.value} {caught.value.metadata}"


async def test_failed_loads_are_repeated_with_growing_delays() -> None:
    async with Source() as source:
        source.fail()
        began: list[float] = []
        for _ in range(80):
            before = source.loads
            with pytest.raises(ForeignKeysUnavailableError) as caught:
                await source.keys("a")
            if source.loads > before:
                began.append(source.clock.elapsed)
            delay = caught.value.retry_after
            assert delay is not None
            assert 1.0 <= delay <= 10.0
            source.clock.elapsed += 0.5
        assert began == [0.0, 1.0, 3.0, 7.0, 15.0, 25.0, 35.0]
        source.publish("a")
        source.clock.elapsed += 10.0
        assert kids(await source.keys("a")) == {"a"}


async def test_last_keys_stay_for_an_hour_while_loads_fail() -> None:
    async with holding("a") as source:
        source.fail()
        source.clock.elapsed = LIFETIME
        while source.clock.elapsed < LIFETIME + 3600.0:
            assert kids(await source.keys("a")) == {"a"}
            await source.quiet()
            source.clock.elapsed += 60.0
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys("a")
        source.publish("b")
        source.clock.elapsed += 10.0
        assert kids(await source.keys("b")) == {"b"}


async def test_failure_of_long_ago_does_not_keep_expired_keys_in_force() -> None:
    async with holding("withdrawn") as source:
        source.fail()
        source.clock.elapsed = 0.8 * LIFETIME
        await source.keys(None)
        await source.quiet()
        source.publish("b")
        source.clock.elapsed = LIFETIME
        assert kids(await source.keys("withdrawn")) == {"b"}


async def test_callers_do_not_wait_for_loads_that_keep_failing() -> None:
    async with holding("a") as source:
        source.fail()
        source.clock.elapsed = LIFETIME
        await source.keys("a")
        source.gate.clear()
        for _ in range(3):
            source.clock.elapsed += 12.0
            source.loads = 0
            assert kids(await source.keys("a")) == {"a"}
            await eventually(lambda: source.loads == 1)
            source.gate.set()
            await source.quiet()
            source.gate.clear()


async def test_unknown_key_is_unavailable_while_loads_fail() -> None:
    async with holding("a") as source:
        source.fail()
        for _ in range(2):  # also without another load
            with pytest.raises(ForeignKeysUnavailableError):
                await source.keys("new")
        assert source.loads == 2
        assert kids(await source.keys("a")) == {"a"}


async def test_unusable_key_set_does_not_replace_the_keys() -> None:
    async with holding("a") as source:
        source.document = b'{"keys":[]}'
        source.clock.elapsed = LIFETIME
        assert kids(await source.keys("a")) == {"a"}


async def test_same_document_again_keeps_the_key_set() -> None:
    async with holding("a") as source:
        first = await source.keys("a")
        source.clock.elapsed = LIFETIME
        assert await source.keys("a") is first
        source.publish("b")
        source.clock.elapsed = 2 * LIFETIME
        second = await source.keys("b")
        assert (source.loads, first.revision, second.revision) == (3, 1, 3)


async def test_failure_is_logged_once_and_its_end_once(lines: list[str]) -> None:
    async with holding("a") as source:
        source.fail("forged\nline")
        for _ in range(3):
            source.clock.elapsed += LIFETIME
            await source.keys("a")
            await source.quiet()
        source.publish("a")
        source.clock.elapsed += 10.0
        await source.keys("a")
        await source.quiet()
        assert lines == [
            "the keys of the issuer can't be loaded: forged\\nline; the last keys stay in force for 3600 s at most",
            "the keys of the issuer are available again",
        ]


async def test_refused_keys_are_logged_once_for_a_document(lines: list[str]) -> None:
    async with Source() as source:
        source.document = key_set("a").replace(b"]", b',{"kty":"oct","kid":"secret"}]')
        for _ in range(2):
            await source.keys("a")
            source.clock.elapsed += LIFETIME
        assert lines == ["1 keys of the issuer verify no tokens here: 'secret': kty is none of RSA, EC, OKP"]


async def test_defect_of_a_source_is_survived(lines: list[str]) -> None:
    async with Source() as source:
        source.document = ZeroDivisionError("a defect")
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys("a")
        source.publish("a")
        source.clock.elapsed += 1.0
        assert kids(await source.keys("a")) == {"a"}
        assert "ZeroDivisionError: a defect" in lines[0]


@virtual_time
async def test_load_ends_after_five_seconds() -> None:
    async with Source("a") as source:
        source.gate.clear()
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys("a")
        assert asyncio.get_running_loop().time() == 5.0


async def test_close_releases_waiting_callers_and_begins_no_load() -> None:
    async with Source("a") as source:
        source.gate.clear()
        caller = source.ask("a")
        await eventually(lambda: source.loads == 1)
    with pytest.raises(ForeignKeysUnavailableError):
        await caller
    with pytest.raises(ForeignKeysUnavailableError):
        await source.keys("a")
    assert source.loads == 1


async def test_close_right_after_a_call_releases_the_caller() -> None:
    async with Source("a") as source:
        caller = source.ask("a")
        await asyncio.sleep(0)  # the load is not running yet
    with pytest.raises(ForeignKeysUnavailableError):
        await caller
    assert source.loads == 0
