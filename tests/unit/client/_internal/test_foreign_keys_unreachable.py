"""A key set that cannot be fetched makes a validator stale and rejects no token."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.client import BadStatusLine, IncompleteRead
from typing import Any

import pytest

from tests.support.both_validators import AnyValidator
from tests.support.deadline import eventually
from tests.support.manual_clock import ManualClock
from tests.support.raw_http_server import RawHttpServer, answer, send
from tests.support.token_mint import AUDIENCE, Mint
from tests.unit.client._internal.test_http_fetch import BROKEN, DRIPS
from token_service.client.config import Backoff, ForeignIssuer, ValidatorConfig
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError

FOREIGN = "https://foreign.test"
LOGGER = "token_service.client._internal.key_source"
MINT = Mint("ES256", issuer=FOREIGN)
OTHER = Mint("ES256", "other", FOREIGN)


def keys_of(*mints: Mint) -> bytes:
    return json.dumps({"keys": [mint.jwk for mint in mints]}).encode()


def config(url: str = "test:keys", **changes: Any) -> ValidatorConfig:
    options = {
        "refresh_interval": 3600.0,
        "unknown_key_interval": 0.0,
        "timeout": 60.0,
        "retry": Backoff(initial=60, longest=60),
        **changes,
    }
    issuer = ForeignIssuer(issuer=FOREIGN, jwks_url=url, **options)
    return ValidatorConfig(issuers=[issuer], audience=AUDIENCE)


class Source:
    """A fetch that first returns the keys of `MINT` and then calls a function of the test."""

    def __init__(self, then: Callable[[], Any]) -> None:
        self.then = then
        self.calls = 0

    def __call__(self, url: str, timeout: float) -> Any:
        self.calls += 1
        return keys_of(MINT) if self.calls == 1 else self.then()


def raising(error: BaseException) -> Callable[[], Any]:
    def fetch() -> Any:
        raise error

    return fetch


async def assert_unknown(validator: AnyValidator) -> None:
    with pytest.raises(InvalidTokenError) as caught:
        await validator.validate(OTHER.token(time.time()))
    assert caught.value.reason is InvalidReason.UNKNOWN_KEY


async def assert_stale(validator: AnyValidator) -> None:
    """Assert that a token with an unknown key raises a stale error and one with a known key is accepted."""
    before = validator.counters.rejected_stale
    with pytest.raises(ReplicaStaleError):
        await validator.validate(OTHER.token(time.time()))
    assert validator.counters.rejected_stale == before + 1
    await validator.validate(MINT.token(time.time()))


class _UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("not even this")


FAILURES: dict[str, tuple[Callable[[], Any], str]] = {
    "http.client": (raising(IncompleteRead(b"x")), "IncompleteRead"),
    "a line feed": (raising(OSError("a\nforged line")), r"OSError: a\nforged line"),
    "a status line": (raising(BadStatusLine("a\nforged line")), r"BadStatusLine: a\nforged line"),
    "OSError": (raising(ConnectionResetError("reset")), "ConnectionResetError: reset"),
    "TLS": (raising(ssl.SSLCertVerificationError("self-signed")), "SSLCertVerificationError"),
    "ValueError": (raising(ValueError("no URL")), "ValueError: no URL"),
    "UnicodeError": (raising(UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")), "UnicodeDecodeError"),
    "a defect": (raising(ZeroDivisionError("division by zero")), "ZeroDivisionError: division by zero"),
    "StopIteration": (raising(StopIteration()), "StopIteration"),
    "cancelled": (raising(asyncio.CancelledError()), "CancelledError"),
    "an exit": (raising(SystemExit(3)), "SystemExit: 3"),
    "an interrupt": (raising(KeyboardInterrupt()), "KeyboardInterrupt"),
    "what has no text": (raising(_UnspeakableError()), "_UnspeakableError: ;"),
    "nothing": (lambda: None, "TypeError: the fetch returned NoneType, not bytes"),
    "text": (lambda: "{}", "TypeError: the fetch returned str, not bytes"),
    "other JSON": (lambda: b"[]", "ValueError"),
    "another encoding": (lambda: keys_of(MINT).decode().encode("utf-16"), "ValueError"),
    "no usable key": (lambda: b'{"keys":[{"kty":"oct"}]}', "no usable key"),
}


@pytest.mark.parametrize(("then", "cause"), FAILURES.values(), ids=FAILURES)
async def test_any_failure_of_a_fetch_is_a_failed_refresh(
    kind: str, then: Callable[[], Any], cause: str, caplog: pytest.LogCaptureFixture
) -> None:
    source = Source(then)
    with caplog.at_level(logging.INFO, LOGGER):
        async with AnyValidator(kind, config(fetch=source)) as validator:
            assert await validator.wait_ready()
            for _ in range(3):
                await assert_stale(validator)
            counters = validator.counters
            assert counters.key_refreshes == source.calls >= 4
            assert counters.key_refresh_failures + counters.key_sets_refused == source.calls - 1
            (record,) = [r for r in caplog.records if r.name == LOGGER]
            assert record.levelno == logging.WARNING
            assert FOREIGN in record.getMessage()
            assert cause in record.getMessage()
            assert "\n" not in record.getMessage()
            source.then = lambda: keys_of(MINT)
            await assert_unknown(validator)
            assert [r.levelno for r in caplog.records if r.name == LOGGER] == [logging.WARNING, logging.INFO]


@pytest.mark.parametrize("then", [f[0] for f in FAILURES.values()], ids=FAILURES)
async def test_fetch_is_repeated_after_any_failure(kind: str, then: Callable[[], Any]) -> None:
    source = Source(then)
    retrying = config(fetch=source, refresh_interval=1.0, retry=Backoff(initial=0.001, longest=0.002))
    async with AnyValidator(kind, retrying) as validator:
        assert await validator.wait_ready()
        await eventually(lambda: source.calls >= 4)
        source.then = lambda: keys_of(OTHER)
        await eventually(lambda: validator.counters.key_sets == 2)
        await validator.validate(OTHER.token(time.time()))


@pytest.mark.parametrize("data", BROKEN.values(), ids=BROKEN)
async def test_unknown_key_is_stale_after_a_broken_http_answer(kind: str, data: bytes) -> None:
    with RawHttpServer(answer(keys_of(MINT))) as server:
        async with AnyValidator(kind, config(server.url)) as validator:
            assert await validator.wait_ready()
            server.respond = send(data)
            await assert_stale(validator)


@pytest.mark.parametrize(("start", "again"), DRIPS.values(), ids=DRIPS)
async def test_unknown_key_is_stale_while_the_answer_trickles(kind: str, start: bytes, again: bytes) -> None:
    with RawHttpServer(answer(keys_of(MINT))) as server:
        first = config(server.url, timeout=0.4)
        async with AnyValidator(kind, first) as validator:
            # On a busy machine the first fetch may be late too. The token repeats it.
            await eventually(lambda: _knows(validator))
            server.respond = lambda connection: server.drip(connection, start, again)
            await assert_stale(validator)


async def _knows(validator: AnyValidator) -> bool:
    try:
        return bool(await validator.validate(MINT.token(time.time())))
    except ReplicaStaleError:
        return False


@pytest.mark.parametrize("status", ["503 Service Unavailable", "500 No", "404 Not Found", "429 Slow Down"])
async def test_no_key_set_is_no_fault_of_the_token_while_no_new_fetch_is_allowed(
    kind: str, status: str
) -> None:
    clock = ManualClock(time.time())
    with RawHttpServer(answer(keys_of(MINT))) as server:
        rare = config(server.url, unknown_key_interval=30.0)
        async with AnyValidator(kind, rare, clock) as validator:
            assert await validator.wait_ready()
            server.respond = answer(b"busy", status)
            for _ in range(5):
                await assert_stale(validator)
            assert server.requests == 2
            server.respond = answer(keys_of(MINT))
            clock.advance(29.9)
            await assert_stale(validator)
            assert server.requests == 2
            clock.advance(0.2)
            for _ in range(5):
                await assert_unknown(validator)
            assert server.requests == 3
            clock.advance(31)
            server.respond = answer(keys_of(MINT, OTHER))
            await validator.validate(OTHER.token(clock.wall))
        server.respond = answer(keys_of(MINT))


async def test_a_failed_periodic_fetch_counts_as_well(kind: str) -> None:
    source = Source(raising(OSError("away")))
    periodic = config(
        fetch=source, refresh_interval=1.0, unknown_key_interval=3600.0, retry=Backoff(initial=60, longest=60)
    )
    async with AnyValidator(kind, periodic) as validator:
        assert await validator.wait_ready()
        await assert_stale_or_unknown(validator)  # uses up the one fetch that is allowed
        await eventually(lambda: validator.counters.key_refresh_failures >= 1)
        await assert_stale(validator)


async def assert_stale_or_unknown(validator: AnyValidator) -> None:
    with pytest.raises((ReplicaStaleError, InvalidTokenError)):
        await validator.validate(OTHER.token(time.time()))


class Gate:
    """A fetch that returns when the test opens it."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.waiting = threading.Semaphore(0)
        self.calls = 0

    def __call__(self) -> bytes:
        self.calls += 1
        self.waiting.release()
        self.opened.wait()
        return keys_of(MINT, OTHER)

    async def entered(self) -> None:
        await asyncio.to_thread(self.waiting.acquire)


@pytest.fixture
def gate() -> Iterator[Gate]:
    made = Gate()
    yield made
    made.opened.set()


async def test_closing_waits_for_no_fetch(kind: str, gate: Gate) -> None:
    validator = AnyValidator(kind, config(fetch=Source(gate)))
    async with validator:
        assert await validator.wait_ready()
        waiting = [asyncio.create_task(validator.validate(OTHER.token(time.time()))) for _ in range(3)]
        await gate.entered()
        await eventually(lambda: validator.counters.verified == 0 and gate.calls == 1)
        async with asyncio.timeout(30):  # half the timeout of the fetch
            await validator.close()
            for result in await asyncio.gather(*waiting, return_exceptions=True):
                assert isinstance(result, ReplicaStaleError)
        await assert_stale(validator)
        assert gate.calls == 1
        assert validator.counters.key_refresh_failures == 0


async def test_closing_waits_for_no_periodic_fetch(kind: str, gate: Gate) -> None:
    validator = AnyValidator(kind, config(fetch=lambda _url, _timeout: gate()))
    async with validator:
        await gate.entered()
        async with asyncio.timeout(30):
            await validator.close()
        gate.opened.set()
    assert validator.counters.key_sets == 0


async def test_late_answers_are_dropped_and_hanging_fetches_are_limited(kind: str, gate: Gate) -> None:
    source = Source(gate)
    async with AnyValidator(kind, config(fetch=source, timeout=0.1)) as validator:
        await eventually(lambda: _knows(validator))
        for _ in range(8):
            await assert_stale(validator)
        assert gate.calls == 4  # the limit of threads
        assert len([t for t in threading.enumerate() if t.name == "fetch-keys"]) == 4
        before = validator.counters.key_sets
        gate.opened.set()
        await eventually(lambda: not [t for t in threading.enumerate() if t.name == "fetch-keys"])
        assert validator.counters.key_sets == before  # late answers are dropped
        await eventually(lambda: _accepts(validator, OTHER))


async def _accepts(validator: AnyValidator, mint: Mint) -> bool:
    try:
        return bool(await validator.validate(mint.token(time.time())))
    except ReplicaStaleError:
        return False


async def test_cancelled_caller_does_not_cancel_the_fetch_of_others(gate: Gate) -> None:
    async with AnyValidator("async", config(fetch=Source(gate))) as validator:
        assert await validator.wait_ready()
        first = asyncio.create_task(validator.validate(OTHER.token(time.time())))
        await gate.entered()
        second = asyncio.create_task(validator.validate(OTHER.token(time.time())))
        await asyncio.sleep(0)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        gate.opened.set()
        assert (await second).issuer == FOREIGN
        assert gate.calls == 1


async def test_a_validator_for_event_loops_can_be_used_again() -> None:
    source = Source(lambda: keys_of(MINT, OTHER))
    validator = AnyValidator("async", config(fetch=source))
    async with validator:
        assert await validator.wait_ready()
    await assert_stale(validator)
    async with validator:
        await eventually(lambda: source.calls == 2)
        await validator.validate(OTHER.token(time.time()))
