"""Unusable keys: a clear refusal at the start, and the last good keys stay in use at run time."""

from __future__ import annotations

import asyncio
import shutil
import sqlite3
from pathlib import Path

import pytest

from tests.integration.calls import Api, Follower
from tests.integration.keys.conftest import StartService
from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually
from token_service.v1 import key_service_pb2

RAISED = "UPDATE log_head SET key_revision = key_revision + 1"


def write(database: Path, *statements: str) -> bool:
    """Execute statements in one transaction. If one of them changes no row, roll back and return False."""
    connection = sqlite3.connect(database, timeout=60, isolation_level=None)
    try:
        connection.execute("BEGIN IMMEDIATE")
        for statement in statements:
            if connection.execute(statement).rowcount == 0:
                connection.execute("ROLLBACK")
                return False
        connection.execute("COMMIT")
        return True
    finally:
        connection.close()


@pytest.fixture(scope="module")
def used(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data directory of a service that has run: a database with keys, and the key-encryption key of the keys."""
    directory = tmp_path_factory.mktemp("used")
    env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms"}
    with Node(env=env, data_dir=directory, ready_timeout=60) as node:
        node.terminate()
    return directory


@pytest.mark.parametrize(
    ("statements", "message"),
    [
        (["DELETE FROM signing_keys"], "it has no signing keys; restore their table from a backup"),
        (["DELETE FROM mac_keys"], "it has no MAC keys; restore their table from a backup"),
        (["UPDATE signing_keys SET private_key = zeroblob(50)"], "a key in the database is not wrapped in a format"),
        (["UPDATE signing_keys SET public_key = x'00'"], "the public key of signing key"),
        (["UPDATE signing_keys SET state = 'x'"], "a row of signing_keys or mac_keys can't be read; restore"),
        ([], "add the missing key to TOKEN_SERVICE_KEY_ENCRYPTION_KEY or _FILE"),
    ],
)  # fmt: skip
def test_damaged_keys_refuse_the_start_and_the_error_says_what_to_do(
    used: Path, tmp_path: Path, statements: list[str], message: str
) -> None:
    directory = tmp_path / "data"
    shutil.copytree(used, directory)
    write(directory / "token_service.db", *statements)
    # The case without damage has a wrong key-encryption key.
    env = {} if statements else {"TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key()}
    node = Node(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", **env}, data_dir=directory)
    try:
        node.start(wait=False)
        assert node.wait(60) == 2
        (error,) = [line for line in node.log_text().splitlines() if line.startswith("Error: ")]
        assert message in error
    finally:
        node.close()


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("UPDATE signing_keys SET public_key = x'00' WHERE state = 'prepared'", "the public key of signing key"),
        ("DELETE FROM signing_keys", "it has no signing keys; restore their table from a backup"),
    ],
)  # fmt: skip
async def test_damage_at_run_time_keeps_the_last_good_keys(
    start_service: StartService, damage: str, message: str
) -> None:
    node, operator = start_service(KEY_ROTATION_PERIOD="3s", KEY_ANNOUNCE_TIME="1s")
    database = node.data_dir / "token_service.db"
    async with Api(node.grpc_address) as api, Follower(api) as follower:
        await eventually(lambda: operator.keys("prepared"))
        await eventually(lambda: follower.caught_up)
        issued = await api.issue()
        # Keys rotate continuously, so for a moment none may be prepared.
        backup = "CREATE TABLE backup AS SELECT * FROM signing_keys"
        await eventually(lambda: write(database, backup, damage, RAISED))
        await eventually(lambda: message in node.log_text())
        # The service continues with its keys for longer than a rotation takes.
        for _ in range(12):
            again = await api.issue()
            assert not await api.why(again.access_token)
            assert not await api.why(issued.access_token)
            keys = await api.keys.GetKeySet(key_service_pb2.GetKeySetRequest(), timeout=30)
            assert keys.key_set.keys
            await asyncio.sleep(0.3)
        refreshed = await api.refresh(issued.refresh_token)
        write(database, "REPLACE INTO signing_keys SELECT * FROM backup", "DROP TABLE backup", RAISED)
        await eventually(lambda: "the keys can be used again" in node.log_text())
        before = await operator.only("active")
        await eventually(lambda: _rotated(operator, before))
        assert not await api.why(refreshed.access_token)
        assert all(each.keys for each in follower.key_sets)
    assert node.log_text().count("the stored keys can't be used, the last good ones stay in use") == 1
    assert node.log_text().count(message) == 1


async def _rotated(operator: object, before: str) -> bool:
    return before not in {key["key_id"] for key in await operator.keys("active")}  # type: ignore[attr-defined]


async def test_a_node_without_the_new_key_encryption_key_keeps_its_keys(start_service: StartService) -> None:
    """An operator rewraps all keys before the node has the new key."""
    old, new = key_encryption_key(), key_encryption_key()
    node, operator = start_service(KEY_ENCRYPTION_KEY=old)
    await eventually(lambda: operator.keys("prepared"))
    async with Api(node.grpc_address) as api:
        issued = await api.issue()
        operator.env["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = f"{new},{old}"
        assert (
            await operator.run("rewrap") == "4 keys were encrypted again, with the first key-encryption key"
        )
        await eventually(
            lambda: "the stored keys can't be used, the last good ones stay in use" in node.log_text()
        )
        for _ in range(5):
            assert not await api.why((await api.issue()).access_token)
        assert (
            node.log_text().count(
                "the stored keys can't be used, the last good ones stay in use: the keys in the database are encrypted with"
            )
            == 1
        )
        node.terminate()
        node.start(wait=False)
        assert node.wait(60) == 2
        node._settings["TOKEN_SERVICE_KEY_ENCRYPTION_KEY"] = f"{new},{old}"
        node._known_secrets |= {old, new}
        node.start()
        assert not await api.why(issued.access_token)
        assert (await api.refresh(issued.refresh_token)).refresh_token
