"""The decision about the encryption at a node's start, and the administration of a database beside nodes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.contract.builders import a_session
from tests.unit.config.loaded import KEY
from token_service.app.adapters import audit_keys_of, open_stores
from token_service.app.administration import migrate, undo_migrations
from token_service.app.personal_data import administer_personal_data
from token_service.app.personal_data_start import settle_personal_data
from token_service.config import Settings, load_settings
from token_service.config.values import Profile
from token_service.core.personal_data.keys import EncryptionState
from token_service.core.subscribers.node_details import NodeDetails
from token_service.core.subscribers.node_store import NodeReport
from token_service.errors import ConfigurationError

ON, OFF = EncryptionState.ON, EncryptionState.OFF


def load(directory: Path, *, production: bool = False, encryption: str = "auto") -> Settings:
    settings = load_settings(
        {"data_dir": str(directory), "personal_data_encryption": encryption},
        {"TOKEN_SERVICE_KEY_ENCRYPTION_KEY": KEY, "TOKEN_SERVICE_AUDIT_KEY": KEY},
    )
    return replace(settings, profile=Profile.PRODUCTION) if production else settings


async def settle(settings: Settings) -> EncryptionState:
    async with open_stores(settings, await audit_keys_of(settings), "node-1") as stores:
        return await settle_personal_data(settings, stores)


async def add_session(settings: Settings) -> None:
    async with open_stores(settings, await audit_keys_of(settings), "node-1") as stores:
        await stores.sessions.create(a_session(), None)


async def report(settings: Settings, details: NodeDetails | None) -> None:
    async with open_stores(settings) as stores:
        await stores.nodes.report(NodeReport("older", 0, [], [], details=details))


@pytest.mark.parametrize(
    ("production", "encryption", "state"),
    [
        (True, "auto", ON),
        (False, "auto", OFF),
        (False, "on", ON),
        (True, "off", OFF),
    ],
)
async def test_new_database_is_encrypted_as_the_setting_says(
    tmp_path: Path, *, production: bool, encryption: str, state: EncryptionState
) -> None:
    settings = load(tmp_path, production=production, encryption=encryption)
    await migrate(settings)
    assert await settle(settings) is state
    assert await settle(settings) is state


async def test_database_with_personal_data_stays_as_it_is(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    settings = load(tmp_path, production=True)
    await migrate(settings)
    await add_session(settings)
    assert await settle(settings) is OFF
    with pytest.raises(
        ConfigurationError, match="run `token-service personal-data encrypt`, or set it to `auto`"
    ):
        await settle(load(tmp_path, production=True, encryption="on"))
    async with administer_personal_data(settings) as data:
        await data.encrypt(lambda *_: None)
    assert await settle(load(tmp_path, production=True, encryption="on")) is ON
    assert await settle(load(tmp_path, production=True, encryption="off")) is ON
    assert any(
        "is `off`, but the personal data of the database is encrypted" in each for each in caplog.messages
    )


async def test_encryption_is_refused_while_an_older_node_runs(tmp_path: Path) -> None:
    settings = load(tmp_path, production=True)
    await migrate(settings)
    for details in (None, NodeDetails(version="0.1.0"), NodeDetails(schema_revision="0015")):
        await report(settings, details)
        assert await settle(settings) is OFF
        async with administer_personal_data(settings) as data:
            with pytest.raises(
                ConfigurationError, match="can't read encrypted personal data: older; replace or stop"
            ):
                await data.encrypt(lambda *_: None)
            assert (await data.status()).state is OFF
    await report(settings, NodeDetails(schema_revision="0017"))
    async with administer_personal_data(settings) as data:
        assert await data.encrypt(lambda *_: None) == 0
        assert (await data.status()).state is ON


async def test_status_counts_the_rows_to_convert(tmp_path: Path) -> None:
    settings = load(tmp_path)
    await migrate(settings)
    await add_session(settings)
    shown: list[Any] = []
    async with administer_personal_data(settings) as data:
        assert (await data.status()).data_key is None
        assert await data.encrypt(lambda *numbers: shown.append(numbers)) == 1
        status = await data.status()
        assert (status.state, status.data_key, set(status.remaining.values())) == (ON, 2, {0})
        assert await data.rotate_key() == 3
        assert (await data.status()).data_key == 3
        assert await data.decrypt(lambda *_: None) >= 1
        assert (await data.status()).state is OFF
        with pytest.raises(ConfigurationError, match="is not encrypted, so it has no data key to rotate"):
            await data.rotate_key()
    assert shown[0] == (0, 1)
    assert (1, 1) in shown


async def test_second_conversion_at_the_same_time_is_refused(tmp_path: Path) -> None:
    settings = load(tmp_path)
    await migrate(settings)
    await add_session(settings)
    async with administer_personal_data(settings) as one, administer_personal_data(settings) as other:
        await one._hold()
        with pytest.raises(ConfigurationError, match="another command is encrypting or decrypting"):
            await other.encrypt(lambda *_: None)
        await one.encrypt(lambda *_: None)
        assert await other.encrypt(lambda *_: None) == 0


async def test_schema_of_an_encrypted_database_does_not_go_back(tmp_path: Path) -> None:
    settings = load(tmp_path, encryption="on")
    await migrate(settings)
    await settle(settings)
    with pytest.raises(ConfigurationError, match="run `token-service personal-data decrypt` first"):
        await undo_migrations(settings, "0015")
    async with administer_personal_data(settings) as data:
        await data.decrypt(lambda *_: None)
    await undo_migrations(settings, "0015")
