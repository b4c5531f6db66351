"""`kill -9` at any step of a change leaves both the change and its audit event, or neither."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal

import pytest

from tests.contract.killed_writer import write
from token_service.core.events.store import AuditFilter
from token_service.core.events.verification import verify


async def state(stores) -> tuple[object, ...]:
    """Return what the changes change."""
    head = await stores.log.head()
    signing_keys = (await stores.keys.load()).signing_keys
    return head.epoch, head.sequence, head.key_revision, len(signing_keys), await stores.policies.load()


@pytest.mark.parametrize("change", ["revoke", "renew", "keys", "policies"])
async def test_killed_at_any_step_leaves_both_or_neither(sql_backend, change):
    async with sql_backend.open() as stores:
        # Processes that have the imports done fork in milliseconds.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["tests.contract.killed_writer"])
        before = await state(stores)
        for step in range(40):
            process = context.Process(target=write, args=(sql_backend.url, change, step))
            process.start()
            await asyncio.to_thread(process.join, 60)
            code = process.exitcode
            rows = await stores.audit.list(AuditFilter(), limit=9, after=None)
            assert (await verify(stores.audit)).findings == []
            if code == 0:
                assert (await state(stores)) != before
                assert len(rows) == 1
                # The change and its event take at least so many statements.
                assert step >= (5 if change == "policies" else 6)
                return
            assert code == -signal.SIGKILL
            assert (await state(stores), len(rows)) == (before, 0)
        raise AssertionError("the change never ended")
