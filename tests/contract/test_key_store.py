"""`KeyStore` over every backend."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from tests.contract.builders import NOW, a_draft, a_mac_key, a_signing_key
from token_service.core.keys.store import SigningKeyState, StoredKeys
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationTarget


async def test_is_empty_at_first(stores):
    assert await stores.keys.load() == StoredKeys(0, [], [])


async def test_load_returns_the_saved_keys_in_order(pair):
    keys = [
        a_signing_key("b", create_time=NOW + 1, retire_time=NOW + 5.25, state=SigningKeyState.RETIRED),
        a_signing_key("a", create_time=NOW, activate_time=None, state=SigningKeyState.PREPARED),
        a_signing_key("c", create_time=NOW + 2, algorithm=Algorithm.HS256, public_key=b"", private_key=b""),
    ]
    macs = [a_mac_key(2), a_mac_key(1)]
    assert await pair[0].keys.save(0, keys, macs)
    loaded = await pair[1].keys.load()
    assert loaded.revision == 1 == (await pair[1].log.head()).key_revision
    assert list(loaded.signing_keys) == [keys[1], keys[0], keys[2]]
    assert list(loaded.mac_keys) == [macs[1], macs[0]]


async def test_updates_and_deletes(stores):
    first, second = a_signing_key("a"), a_signing_key("b", create_time=NOW + 1)
    await stores.keys.save(0, [first, second], [a_mac_key(1)])
    retired = replace(second, state=SigningKeyState.RETIRED, retire_time=NOW + 9, private_key=b"rewrapped")
    assert await stores.keys.save(
        1, [retired], [a_mac_key(1, wrapped=b"rewrapped")], deleted_key_ids=["a", "x"]
    )
    loaded = await stores.keys.load()
    assert loaded == StoredKeys(2, [retired], [a_mac_key(1, wrapped=b"rewrapped")])


async def test_refuses_another_revision_and_changes_nothing(stores):
    await stores.keys.save(0, [a_signing_key("a")], [a_mac_key(1)])
    before = await stores.keys.load()
    for revision in (0, 2):
        assert not await stores.keys.save(
            revision, [a_signing_key("b")], [a_mac_key(2)], deleted_key_ids=["a"]
        )
    assert await stores.keys.load() == before


async def test_one_of_several_concurrent_saves_wins(pair):
    for revision in range(5):
        answers = await asyncio.gather(
            *(pair[n % 2].keys.save(revision, [a_signing_key(f"{revision} {n}")], []) for n in range(8))
        )
        assert sum(answers) == 1
    loaded = await pair[0].keys.load()
    assert (loaded.revision, len(loaded.signing_keys)) == (5, 5)


async def test_a_save_decided_before_a_revocation_fails(stores):
    await stores.keys.save(0, [a_signing_key("a")], [])
    await stores.log.append([a_draft(RevocationTarget.KEY, "a")])
    assert not await stores.keys.save(1, [a_signing_key("a")], [])
    assert (await stores.keys.load()).signing_keys[0].state is SigningKeyState.REVOKED


async def test_load_reads_keys_and_revision_from_one_snapshot(pair):
    async def save():
        for revision in range(30):
            assert await pair[0].keys.save(revision, [a_signing_key(str(revision))], [a_mac_key(revision)])

    async def load():
        while True:
            loaded = await pair[1].keys.load()
            assert len(loaded.signing_keys) == len(loaded.mac_keys) == loaded.revision
            if loaded.revision == 30:
                return
            await asyncio.sleep(0)

    async with asyncio.timeout(100):
        await asyncio.gather(save(), load())
