"""Reloads the settings of a running node from their sources, on request and when the settings file changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from token_service.clock import Clock
from token_service.config import SETTINGS, Settings, load_settings
from token_service.config.effective import changed_settings, shown_value
from token_service.config.setting import Setting
from token_service.core.reports.configuration import EffectiveConfiguration, EffectiveSetting
from token_service.errors import ConfigurationError
from token_service.files import read_regular

_INTERVAL: Final = 1.0
_MAX_BYTES: Final = 1024 * 1024

logger = logging.getLogger(__name__)


class Reloader:
    """The settings in effect. Sources that are unusable change nothing."""

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        clock: Clock,
        *,
        node_id: str,
        requested: asyncio.Event,
    ) -> None:
        """`requested` is set to ask for a reload, e.g. by a signal."""
        self._settings = settings
        self._environ = environ
        self._clock = clock
        self._node_id = node_id
        self._requested = requested
        self._appliers: list[Callable[[Settings], None]] = []
        self._sources = settings
        """The settings that the sources had when they were last usable."""
        self._seen: bytes | None = None
        self._time: float | None = None
        self._problem = ""

    def on_change(self, apply: Callable[[Settings], None]) -> None:
        """Call `apply` with all settings after each change of one that is reloadable. It must not raise."""
        self._appliers.append(apply)

    def effective(self) -> EffectiveConfiguration:
        """Return the settings in effect, and those that wait for a restart."""
        waiting = {each.name for each in self._waiting(self._sources)}
        return EffectiveConfiguration(
            self._node_id,
            [
                EffectiveSetting(
                    each.variable,
                    shown_value(each, self._settings),
                    self._settings.sources.get(each.name, "default"),
                    each.reloadable,
                    shown_value(each, self._sources) if each.name in waiting else "",
                )
                for each in SETTINGS
            ],
            self._time,
            self._problem,
        )

    async def run(self) -> None:
        """Reload on request, and when the content of the settings file changes, until cancelled."""
        path = self._settings.config_file
        while True:
            asked = self._requested.is_set()
            self._requested.clear()
            content = None if path is None else await asyncio.to_thread(_content, path)
            if asked or content != self._seen:
                self._seen = content
                await self.reload(asked=asked)
            try:
                async with asyncio.timeout(None if path is None else _INTERVAL):
                    await self._requested.wait()
            except TimeoutError:
                pass

    async def reload(self, *, asked: bool = True) -> None:
        """Load the settings again, take over those that are reloadable, and log every difference.

        `asked`: whether to log that nothing differs.
        """
        try:
            loaded = await asyncio.to_thread(load_settings, self._settings.flags, self._environ)
        except ConfigurationError as error:
            if asked or error.message != self._problem:
                logger.error("the settings in effect stay unchanged: %s", error.message)  # noqa: TRY400 - says all
            self._problem = error.message
            return
        changed = [each for each in changed_settings(self._settings, loaded) if each.reloadable]
        waiting = self._waiting(loaded)
        newly = [each for each in waiting if each in changed_settings(self._sources, loaded)]
        before, failed = self._settings, bool(self._problem)
        self._sources, self._problem = loaded, ""
        if changed:
            self._take_over(changed, loaded)
            logger.info("settings have changed: %s", _differences(changed, before, loaded))
        if waiting and (asked or newly):
            logger.warning(
                "settings have changed that need a restart: %s", _differences(waiting, before, loaded)
            )
        if not changed and not waiting and (asked or failed):
            logger.info("the settings were read again and have not changed")

    def _take_over(self, changed: list[Setting], loaded: Settings) -> None:
        values: dict[str, Any] = {each.name: getattr(loaded, each.name) for each in changed}
        sources = {
            **self._settings.sources,
            **{each.name: loaded.sources.get(each.name, "default") for each in changed},
        }
        self._settings = replace(self._settings, **values, sources=sources)
        self._time = self._clock.now()
        for apply in self._appliers:
            apply(self._settings)

    def _waiting(self, sources: Settings) -> list[Setting]:
        return [each for each in changed_settings(self._settings, sources) if not each.reloadable]


def _content(path: Path) -> bytes:
    """Return the content of the settings file; empty if it can't be read, which the reload reports."""
    try:
        return read_regular(path, _MAX_BYTES)
    except OSError:
        return b""


def _differences(settings: list[Setting], before: Settings, after: Settings) -> str:
    return ", ".join(
        f"{each.variable} {shown_value(each, before)} -> {shown_value(each, after)}" for each in settings
    )
