"""A running node takes over what its sources say, and names what needs a restart."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress

import pytest

from tests.support.deadline import eventually
from token_service.app.reload import Reloader
from token_service.clock import SystemClock
from token_service.config import SETTINGS, Settings, load_settings


class Scene:
    """A node with a settings file, whose reloads are run by the test."""

    def __init__(self, path) -> None:
        self.path = path
        self.requested = asyncio.Event()
        self.applied: list[Settings] = []
        self.write('log_level = "info"\nworkers = 1\n')
        settings = load_settings({"config_file": str(path)}, {"TOKEN_SERVICE_MAX_STREAMS": "7"})
        self.reloader = Reloader(
            settings,
            {"TOKEN_SERVICE_MAX_STREAMS": "7"},
            SystemClock(),
            node_id="node-1",
            requested=self.requested,
        )
        self.reloader.on_change(self.applied.append)

    def write(self, text: str) -> None:
        self.path.write_text(text)

    def effective(self, name: str):
        (found,) = [
            each
            for each in self.reloader.effective().settings
            if each.name == f"TOKEN_SERVICE_{name.upper()}"
        ]
        return found.value, found.source, found.reloadable, found.pending


@pytest.fixture
def scene(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    return Scene(tmp_path / "service.toml")


async def test_a_reloadable_setting_is_taken_over_with_its_difference_in_the_log(scene, caplog):
    scene.write('log_level = "debug"\nworkers = 1\njanitor_interval = "5m"\n')
    await scene.reloader.reload()
    (settings,) = scene.applied
    assert (settings.log_level, settings.janitor_interval, settings.max_streams) == ("debug", 300.0, 7)
    assert scene.effective("log_level") == ("debug", "file", True, "")
    assert scene.effective("janitor_interval") == ("5m", "file", True, "")
    assert (
        "settings have changed: TOKEN_SERVICE_LOG_LEVEL info -> debug, TOKEN_SERVICE_JANITOR_INTERVAL 1m -> 5m"
        in caplog.messages
    )
    assert scene.reloader.effective().reload_time is not None


async def test_a_setting_that_is_removed_has_its_default_again(scene):
    scene.write('log_level = "debug"\n')
    await scene.reloader.reload()
    scene.write("")
    await scene.reloader.reload()
    assert scene.effective("log_level") == ("info", "default", True, "")
    assert [each.log_level for each in scene.applied] == ["debug", "info"]


async def test_another_setting_is_named_with_needs_a_restart_and_stays(scene, caplog):
    scene.write('workers = 4\npkcs11_pin = "1234"\n')
    await scene.reloader.reload()
    assert scene.applied == []
    assert scene.effective("workers") == ("1", "file", False, "4")
    assert scene.effective("pkcs11_pin") == ("-", "default", False, "***")
    assert (
        "settings have changed that need a restart: TOKEN_SERVICE_WORKERS 1 -> 4, TOKEN_SERVICE_PKCS11_PIN - -> ***"
        in caplog.messages
    )
    assert "1234" not in caplog.text
    scene.write("workers = 1\n")
    await scene.reloader.reload()
    assert scene.effective("workers") == ("1", "file", False, "")


@pytest.mark.parametrize(
    "content", ['log_level = "debug"\nworkers = 0\n', 'log_level = "debug"\nnonsense = 1\n', "log_level ="]
)
async def test_a_bad_file_changes_nothing(scene, caplog, content):
    scene.write(content)
    await scene.reloader.reload()
    assert scene.applied == []
    assert scene.effective("log_level") == ("info", "file", True, "")
    assert scene.reloader.effective().reload_problem in caplog.text
    assert "the settings in effect stay unchanged: " in caplog.text
    scene.write('log_level = "info"\nworkers = 1\n')
    await scene.reloader.reload(asked=False)
    assert scene.reloader.effective().reload_problem == ""
    assert caplog.messages[-1] == "the settings were read again and have not changed"


async def test_a_changed_file_and_a_request_are_noticed_and_an_unchanged_file_is_not(scene, caplog):
    task = asyncio.create_task(scene.reloader.run())

    try:
        scene.write('log_level = "error"\n')
        await eventually(lambda: scene.effective("log_level")[0] == "error")
        scene.requested.set()
        await eventually(lambda: "the settings were read again and have not changed" in caplog.messages)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    assert len(scene.applied) == 1


def test_every_setting_has_an_effective_value(scene):
    assert [each.name for each in scene.reloader.effective().settings] == [each.variable for each in SETTINGS]
