from __future__ import annotations

import asyncio

import pytest

from tests.support.deadline import eventually
from token_service.errors import OverloadedError, StoreUnavailableError
from token_service.stores.sql.engine import group_commit
from token_service.stores.sql.engine.group_commit import QUIET_ROUNDS, GroupCommitter


class Flush:
    """A flush function that records batches and holds each until `go` is set."""

    def __init__(self, *, held=False):
        self.batches = []
        self.answer = lambda item: item
        self.go = asyncio.Event()
        if not held:
            self.go.set()

    async def __call__(self, batch):
        self.batches.append(list(batch))
        await self.go.wait()
        return [self.answer(item) for item in batch]


class Opened:
    def __init__(self, *flushes, max_batch=64, max_queue=1000, **options):
        self.committer = GroupCommitter(flushes, max_batch=max_batch, max_queue=max_queue, **options)

    async def __aenter__(self):
        self.committer.open()
        return self.committer

    async def __aexit__(self, *_):
        async with asyncio.timeout(60):
            await self.committer.aclose()


def submit(committer, items):
    return [asyncio.ensure_future(committer(item)) for item in items]


async def test_single_call_is_flushed_at_once():
    flush = Flush()
    async with Opened(flush) as committer:
        assert await committer("a") == "a"
        assert await committer("b") == "b"
    assert flush.batches == [["a"], ["b"]]


async def test_calls_that_arrive_in_successive_rounds_of_the_loop_share_a_flush():
    flush = Flush()
    async with Opened(flush, company=5) as committer:
        calls = []
        for item in "abcdefg":
            calls += submit(committer, item)
            await asyncio.sleep(0)  # gRPC hands over one call in each round
        assert await asyncio.gather(*calls) == list("abcdefg")
    assert flush.batches[0] == list("abcde")


async def test_call_is_flushed_after_quiet_rounds_although_a_batch_may_be_larger():
    flush = Flush()
    async with Opened(flush, company=1000) as committer:
        call = submit(committer, "a")
        rounds = 0
        while not flush.batches:
            await asyncio.sleep(0)
            rounds += 1
        assert QUIET_ROUNDS <= rounds <= QUIET_ROUNDS + 5
        assert await call[0] == "a"


async def test_call_does_not_wait_for_long_rounds_of_a_busy_loop(monkeypatch):
    monkeypatch.setattr(group_commit, "_LONGEST_GATHERING", 0.0)
    flush = Flush()
    async with Opened(flush, company=1000) as committer:
        call = submit(committer, "a")
        rounds = 0
        while not flush.batches:
            await asyncio.sleep(0)
            rounds += 1
        assert rounds < QUIET_ROUNDS
        assert await call[0] == "a"


async def test_close_waits_for_no_further_call():
    flush = Flush()
    async with Opened(flush, company=1000) as committer:
        call = submit(committer, "a")
        await asyncio.sleep(0)
    assert await call[0] == "a"


async def test_calls_during_a_flush_share_the_next_flush():
    flush = Flush(held=True)
    async with Opened(flush) as committer:
        first = submit(committer, ["a"])
        await eventually(lambda: flush.batches)
        others = submit(committer, "bcd")
        await asyncio.sleep(0)
        assert flush.batches == [["a"]]
        flush.go.set()
        assert await asyncio.gather(*first, *others) == list("abcd")
    assert flush.batches == [["a"], list("bcd")]


async def test_callers_get_results_only_after_the_flush():
    flush = Flush(held=True)
    async with Opened(flush) as committer:
        tasks = submit(committer, "ab")
        await eventually(lambda: flush.batches)
        assert not any(task.done() for task in tasks)
        flush.go.set()
        await asyncio.gather(*tasks)


async def test_batch_size_is_limited():
    flush = Flush()
    async with Opened(flush, max_batch=4) as committer:
        assert await asyncio.gather(*submit(committer, range(10))) == list(range(10))
    assert [len(batch) for batch in flush.batches] == [4, 4, 2]


async def test_two_flushes_run_concurrently():
    one, other = Flush(held=True), Flush(held=True)
    async with Opened(one, other, max_batch=2) as committer:
        tasks = submit(committer, range(4))
        await eventually(lambda: one.batches and other.batches)
        one.go.set()
        other.go.set()
        assert await asyncio.gather(*tasks) == list(range(4))


async def test_failed_item_does_not_fail_its_batch():
    flush = Flush()
    flush.answer = lambda item: ValueError("b") if item == "b" else item
    async with Opened(flush) as committer:
        a, b, c = await asyncio.gather(*submit(committer, "abc"), return_exceptions=True)
    assert (a, c) == ("a", "c")
    assert isinstance(b, ValueError)


async def test_unavailable_database_fails_queued_items_too():
    flush = Flush(held=True)
    flush.answer = lambda _: StoreUnavailableError()
    async with Opened(flush, max_batch=1) as committer:
        tasks = submit(committer, range(5))
        await eventually(lambda: flush.batches)
        flush.go.set()
        answers = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(isinstance(answer, StoreUnavailableError) for answer in answers)
        assert len(flush.batches) == 1
        flush.answer = lambda item: item
        assert await committer("later") == "later"


async def test_exception_of_flush_does_not_end_the_task(caplog):
    flush = Flush()

    def broken(item):
        raise RuntimeError("defect")

    flush.answer = broken
    async with Opened(flush) as committer:
        with pytest.raises(StoreUnavailableError):
            await committer("a")
        flush.answer = lambda item: item
        assert await committer("b") == "b"
    assert "RuntimeError: defect" in caplog.text


async def test_flush_with_too_few_results_fails_the_batch(caplog):
    async def short(batch):
        return batch[1:]

    async with Opened(short) as committer:
        for task in submit(committer, "abc"):
            with pytest.raises(StoreUnavailableError):
                await task


async def test_full_queue_refuses_calls():
    flush = Flush(held=True)
    async with Opened(flush, max_batch=1, max_queue=3) as committer:
        first = submit(committer, "a")
        await eventually(lambda: flush.batches)
        queued = submit(committer, "bcd")
        await asyncio.sleep(0)
        with pytest.raises(OverloadedError) as caught:
            await committer("e")
        assert caught.value.retry_after
        flush.go.set()
        await asyncio.gather(*first, *queued)
        assert await committer("f") == "f"


async def test_item_cancelled_while_queued_is_not_flushed():
    flush = Flush(held=True)
    async with Opened(flush) as committer:
        first = submit(committer, "a")
        await eventually(lambda: flush.batches)
        b, c = submit(committer, "bc")
        await asyncio.sleep(0)
        b.cancel()
        flush.go.set()
        assert await asyncio.gather(*first, c) == ["a", "c"]
    assert flush.batches == [["a"], ["c"]]


async def test_cancelled_items_leave_room_in_the_queue():
    flush = Flush(held=True)
    async with Opened(flush, max_batch=1, max_queue=2) as committer:
        first = submit(committer, "a")
        await eventually(lambda: flush.batches)
        queued = submit(committer, "bc")
        await asyncio.sleep(0)
        for task in queued:
            task.cancel()
        await asyncio.wait(queued)
        later = submit(committer, "d")
        await asyncio.sleep(0)
        assert not later[0].done()
        flush.go.set()
        assert await asyncio.gather(*first, *later) == ["a", "d"]


async def test_item_cancelled_during_flush_does_not_affect_others():
    flush = Flush(held=True)
    async with Opened(flush) as committer:
        a, b = submit(committer, "ab")
        await eventually(lambda: flush.batches)
        a.cancel()
        flush.go.set()
        assert await b == "b"
        assert await committer("c") == "c"
    assert a.cancelled()


async def test_close_flushes_queued_items_and_refuses_new_ones():
    flush = Flush()
    async with Opened(flush, max_batch=2) as committer:
        tasks = submit(committer, range(7))
        await asyncio.sleep(0)
    assert await asyncio.gather(*tasks) == list(range(7))
    with pytest.raises(StoreUnavailableError):
        await committer("late")


async def test_cancelled_close_ends_the_tasks():
    flush = Flush(held=True)
    committer = GroupCommitter([flush], max_batch=1, max_queue=10)
    committer.open()
    tasks = submit(committer, "ab")
    await eventually(lambda: flush.batches)
    closing = asyncio.ensure_future(committer.aclose())
    await asyncio.sleep(0)
    closing.cancel()
    answers = await asyncio.gather(closing, *tasks, return_exceptions=True)
    assert isinstance(answers[0], asyncio.CancelledError)
    assert all(isinstance(answer, StoreUnavailableError) for answer in answers[1:])
    await eventually(lambda: not [t for t in asyncio.all_tasks() if t.get_name().startswith("group-commit")])


async def test_callers_of_two_flushes_get_their_own_results():
    async def flush(batch):
        await asyncio.sleep(0)
        return [item * 2 for item in batch]

    async with Opened(flush, flush, max_batch=7) as committer:
        assert await asyncio.gather(*submit(committer, range(500))) == [n * 2 for n in range(500)]


async def test_second_batch_starts_once_enough_items_wait():
    first, second = Flush(held=True), Flush(held=True)
    async with Opened(first, second, company=3, patience=3600) as committer:
        alone = submit(committer, "a")
        await eventually(lambda: first.batches)
        others = submit(committer, "bc")
        await asyncio.sleep(0.01)
        assert not second.batches
        others += submit(committer, "d")
        await eventually(lambda: second.batches == [["b", "c", "d"]])
        first.go.set()
        second.go.set()
        assert await asyncio.gather(*alone, *others) == list("abcd")


async def test_item_waits_at_most_patience_while_another_flush_hangs():
    first, second = Flush(held=True), Flush()
    async with Opened(first, second, company=1000, patience=0.001) as committer:
        stuck = submit(committer, "a")
        await eventually(lambda: first.batches)
        async with asyncio.timeout(60):
            for item in "bcd":
                assert await committer(item) == item
        first.go.set()
        assert await stuck[0] == "a"


async def test_waiting_items_join_the_next_flush_of_the_first_task():
    first, second = Flush(held=True), Flush()
    async with Opened(first, second, company=1000, patience=3600) as committer:
        stuck = submit(committer, "a")
        await eventually(lambda: first.batches)
        others = submit(committer, "bc")
        await asyncio.sleep(0)
        first.go.set()
        assert await asyncio.gather(*stuck, *others) == list("abc")
        assert first.batches == [["a"], ["b", "c"]]
        assert await committer("d") == "d"
