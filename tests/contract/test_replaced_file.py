"""SQLite keeps using a file that was deleted or replaced; no read or write in such a file may count."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.contract.builders import a_draft, a_session
from token_service.errors import StoreUnavailableError
from token_service.stores.sql import SqlStores
from token_service.tokens.revocation import RevocationTarget

SUFFIXES = ("", "-wal", "-shm")


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()}


def copy_of(path: Path) -> Path:
    copy = path.with_suffix(".backup")
    with sqlite3.connect(path) as source, sqlite3.connect(copy) as target:
        source.backup(target)
    source.close()
    target.close()
    return copy


def delete(path: Path) -> None:
    for suffix in SUFFIXES:
        Path(f"{path}{suffix}").unlink()


def replace(path: Path) -> None:
    copy = copy_of(path)
    delete(path)
    shutil.move(copy, path)


def rename_over(path: Path) -> None:
    copy_of(path).replace(path)


def delete_log(path: Path) -> None:
    Path(f"{path}-wal").unlink()


def delete_index(path: Path) -> None:
    Path(f"{path}-shm").unlink()


def replace_log(path: Path) -> None:
    copy = shutil.copy(f"{path}-wal", f"{path}-other")
    Path(copy).replace(f"{path}-wal")


def append(stores: SqlStores, name: str):
    return stores.log.append([a_draft(RevocationTarget.SUBJECT, name)])


def operations(stores: SqlStores):
    return (
        stores.log.head(),
        append(stores, "after"),
        stores.sessions.create(a_session(), None),
        stores.log.read(0, 10),
        stores.leases.acquire("lease", "node", 1),
        stores.keys.load(),
    )


@pytest.mark.parametrize("change", [delete, replace, rename_over, delete_log, delete_index, replace_log])
async def test_nothing_counts_after_a_file_was_changed(sqlite_database: str, change) -> None:
    path = Path(sqlite_database.removeprefix("sqlite:///"))
    async with SqlStores(sqlite_database) as stores:
        await stores.sessions.create(a_session(), None)
        await append(stores, "before")
        assert (await stores.log.head()).sequence == 1
        assert len(await stores.log.read(0, 10)) == 1
        change(path)
        for _ in range(2):  # the first round drops the connections
            answers = await asyncio.gather(*operations(stores), return_exceptions=True)
            for answer in answers:
                assert isinstance(answer, StoreUnavailableError), answer
            assert any("restart the node" in str(answer) for answer in answers)
        assert (path.name in names(path.parent)) == (change is not delete), (
            "an empty file took the place of the database"
        )


async def test_a_new_process_uses_the_new_file(sqlite_database: str) -> None:
    path = Path(sqlite_database.removeprefix("sqlite:///"))
    async with SqlStores(sqlite_database) as old:
        await append(old, "before")
        replace(path)
        async with SqlStores(sqlite_database) as new:
            assert (await new.log.head()).sequence == 1
            head, _ = await append(new, "after")
            assert head.sequence == 2
            with pytest.raises(StoreUnavailableError):
                await old.log.head()


async def test_several_processes_open_and_close_one_file(sqlite_database: str) -> None:
    path = Path(sqlite_database.removeprefix("sqlite:///"))
    async with SqlStores(sqlite_database) as one:
        await append(one, "one")
        for number in range(3):
            async with SqlStores(sqlite_database) as two:
                await append(two, f"two {number}")
        assert f"{path.name}-wal" in names(path.parent)
        assert (await one.log.head()).sequence == 4
        await append(one, "one again")
    # The last process to close removes the log, and the next one starts without it.
    assert f"{path.name}-wal" not in names(path.parent)
    async with SqlStores(sqlite_database) as three:
        assert (await three.log.head()).sequence == 5


async def test_file_names_with_special_characters_are_opened(sqlite_database: str, tmp_path: Path) -> None:
    odd = tmp_path / "a%20b#c d.db"
    shutil.copy(sqlite_database.removeprefix("sqlite:///"), odd)
    async with SqlStores(f"sqlite:///{str(odd).replace('%', '%25').replace('#', '%23')}") as stores:
        await append(stores, "x")
        assert (await stores.log.head()).sequence == 1
    with sqlite3.connect(odd) as connection:
        assert connection.execute("SELECT count(*) FROM revocations").fetchone() == (1,)
    connection.close()
