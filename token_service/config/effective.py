"""Settings in effect: their values for operators, and what differs after the sources have changed."""

from __future__ import annotations

import hmac
from collections.abc import Sequence
from typing import Any

from token_service.config.setting import Setting
from token_service.config.settings import SETTINGS, Settings
from token_service.config.values import Address
from token_service.durations import duration_text
from token_service.tokens.secret import Secret
from token_service.urls import DatabaseUrl, RedisUrl


def shown_value(setting: Setting, settings: Settings) -> str:
    """Return the value of a setting without secrets; `-` if it is not set."""
    value = getattr(settings, setting.name)
    if value is None or value == ():
        return "-"
    if setting.secret:
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    return duration_text(value) if isinstance(value, float) else str(value)


def changed_settings(before: Settings, after: Settings) -> Sequence[Setting]:
    """Return the settings whose values differ, without those that are derived from others in both."""
    return [
        each
        for each in SETTINGS
        if not before.sources.get(each.name) == after.sources.get(each.name) == "default"
        and not _same(getattr(before, each.name), getattr(after, each.name))
    ]


def _same(before: Any, after: Any) -> bool:
    if isinstance(before, tuple) and isinstance(after, tuple):
        return len(before) == len(after) and all(map(_same, before, after))
    if isinstance(before, Secret) and isinstance(after, Secret):
        return hmac.compare_digest(before.reveal(), after.reveal())
    if isinstance(before, DatabaseUrl | RedisUrl) and isinstance(after, DatabaseUrl | RedisUrl):
        return before.text == after.text
    if isinstance(before, Address) and isinstance(after, Address) and not after.port:
        return before.host == after.host  # port 0 stands for the port that was taken
    return bool(before == after)
