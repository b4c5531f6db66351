"""A node of an earlier version that writes to a migrated database while newer nodes run: it fills only the
columns it knows.
"""

from __future__ import annotations

import asyncio

from tests.contract.builders import NOW, a_draft
from token_service.clock import SystemClock
from token_service.core.keys.keyring import Keyring
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.revocation.tailer import Tailer
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationTarget

TOKEN = RevocationTarget.TOKEN_ID


async def append_as_before(stores, sequence):
    """Append as a node at the second revision of the schema does."""
    time = round((NOW + sequence) * 1_000_000)
    async with stores._database.engine.begin() as connection:
        await connection.exec_driver_sql(
            "INSERT INTO revocations (sequence, revoke_time, expire_time, target, reason, value, comment) "
            f"VALUES ({sequence}, {time}, {time + 3600_000_000}, {int(TOKEN)}, 0, 'older-{sequence}', '')"
        )
        await connection.exec_driver_sql(f"UPDATE log_head SET sequence = {sequence}, key_revision = 0")


def a_tailer(stores, replica):
    keyring = Keyring(stores.keys, wrap=None, algorithm=Algorithm.ES256, open_signer=None)
    index = ReadIndex(stores.log)
    return Tailer(stores.log, replica, index, keyring, SystemClock(), poll_interval=1, max_staleness=9)


async def test_time_of_the_newest_entry_is_unknown_after_an_older_node_wrote_it(sql_backend):
    async with sql_backend.open() as stores:
        await stores.log.append([a_draft(TOKEN, 1, revoke_time=NOW + 1)])
        await append_as_before(stores, 2)
        head = await stores.log.head()
        assert (head.sequence, head.newest) == (2, None)
        await stores.log.compact(NOW + 9000, 100)
        head = await stores.log.head()
        assert (head.sequence, head.compacted, head.newest) == (2, 2, None)
        head, entries = await stores.log.append([a_draft(TOKEN, 3, revoke_time=NOW + 3)])
        assert (head.follows, head.newest, entries[0].sequence) == (None, NOW + 3, 3)
        assert (await stores.log.head()).newest == NOW + 3


async def test_a_node_follows_entries_of_older_nodes(sql_backend, caplog):
    async with sql_backend.open() as stores:
        replica = Replica()
        tailer = a_tailer(stores, replica)
        await stores.log.append([a_draft(TOKEN, 1)])
        await tailer.start()
        known = replica.revocations
        await append_as_before(stores, 2)
        for _ in range(3):
            await tailer.start()
        assert replica.revocations is known
        async with asyncio.timeout(30):
            assert (await tailer.catch_up()).sequence == replica.applied == 2
        await stores.log.append([a_draft(TOKEN, 3)])
        await tailer.start()
        assert (replica.revocations, replica.applied) == (known, 3)
        assert "restored" not in caplog.text
