from __future__ import annotations

import asyncio
import threading

import pytest

from tests.support.deadline import eventually
from token_service.errors import SigningUnavailableError
from token_service.signers.signing_threads import SigningThreads


async def test_each_caller_gets_the_result_of_its_own_data() -> None:
    threads = SigningThreads(3)
    results = await asyncio.gather(*(threads.sign(lambda data: data * 2, b"%d" % n) for n in range(500)))
    assert results == [b"%d" % n * 2 for n in range(500)]
    threads.close()


async def test_error_reaches_only_its_caller() -> None:
    threads = SigningThreads(1)

    def broken(data: bytes) -> bytes:
        raise ValueError("no")

    first, second = threads.sign(broken, b"x"), threads.sign(bytes.upper, b"x")
    with pytest.raises(ValueError, match="no"):
        await first
    assert await second == b"X"
    threads.close()


async def test_cancelled_caller_does_not_affect_other_callers() -> None:
    threads = SigningThreads(1)
    go_on = threading.Event()

    def wait(data: bytes) -> bytes:
        go_on.wait(60)
        return data

    gone, queued = threads.sign(wait, b"1"), threads.sign(bytes.upper, b"x")
    gone.cancel()
    go_on.set()
    assert await queued == b"X"
    threads.close()


async def test_close_finishes_queued_signatures_and_refuses_new_ones() -> None:
    before = set(threading.enumerate())
    threads = SigningThreads(2)
    asked = [threads.sign(bytes.upper, b"x") for _ in range(10)]
    threads.close()
    assert await asyncio.gather(*asked) == [b"X"] * 10
    with pytest.raises(SigningUnavailableError):
        threads.sign(bytes.upper, b"x")
    await eventually(lambda: set(threading.enumerate()) <= before)


def test_no_thread_starts_before_the_first_signature() -> None:
    before = set(threading.enumerate())
    SigningThreads(4).close()
    assert set(threading.enumerate()) <= before  # threads of other tests may end during this test


def test_closed_loop_does_not_break_the_thread() -> None:
    before = set(threading.enumerate())
    threads = SigningThreads(1)
    go_on = threading.Event()

    def wait(data: bytes) -> bytes:
        go_on.wait(60)
        return data

    async def ask() -> None:
        threads.sign(wait, b"x")

    asyncio.run(ask())
    (worker,) = (
        thread for thread in threading.enumerate() if thread.name == "sign-0" and thread not in before
    )
    go_on.set()
    threads.close()
    worker.join(60)
    assert not worker.is_alive()
