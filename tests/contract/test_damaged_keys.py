"""Damaged rows in the key tables end in an error that says what to do, not in a crash."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.contract.builders import a_mac_key, a_signing_key
from token_service.errors import ConfigurationError
from token_service.stores.sql import SqlStores


async def damage(stores, statement):
    async with stores._database.engine.begin() as connection:
        await connection.exec_driver_sql(statement)


async def require_refusal(stores):
    with pytest.raises(
        ConfigurationError, match=r"database is damaged: .* restore the tables from a backup"
    ) as caught:
        await stores.keys.load()
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    "what",
    [
        "state = 'secret'",
        "algorithm = 'secret'",
        "certificates = 'secret'",
        "certificates = '[1]'",
        """certificates = '["secret"]'""",
    ],
)
async def test_value_that_no_node_writes_is_refused(sql_backend, what):
    async with sql_backend.open() as stores:
        key = a_signing_key()
        await stores.keys.save(0, [key], [a_mac_key()])
        await damage(stores, f"UPDATE signing_keys SET {what}")
        await require_refusal(stores)
        await stores.keys.save(1, [replace(key)], [])
        assert list((await stores.keys.load()).signing_keys) == [key]


@pytest.mark.parametrize(
    "what",
    ["public_key = 'secret'", "private_key = 'secret'", "create_time = 'secret'", "retire_time = x'00'"],
)
async def test_type_that_sqlite_does_not_enforce_is_refused(sqlite_database, what):
    async with SqlStores(sqlite_database) as stores:
        await stores.keys.save(0, [a_signing_key()], [a_mac_key()])
        await damage(stores, f"UPDATE signing_keys SET {what}")
        await require_refusal(stores)
