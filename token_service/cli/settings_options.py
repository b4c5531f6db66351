"""Settings as flags of a command."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import click

from token_service.cli.help_sections import SettingOption
from token_service.config import SETTINGS, LogFormat, Setting, Settings, load_settings
from token_service.telemetry import configure_logging

logger = logging.getLogger(__name__)


def settings_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for every non-secret setting to a command, and call it with `settings` and its own arguments.

    Configures logging. Raises `ConfigurationError`.
    """

    @wraps(function)
    def load(**arguments: Any) -> None:
        function(settings=load_flags(taken_flags(arguments)), **arguments)

    return add_settings_flags(load)


def add_settings_flags(function: Callable[..., None]) -> Callable[..., None]:
    """Add a flag for every non-secret setting to a command."""
    for setting in reversed(SETTINGS):
        if not setting.secret:
            function = _option(setting)(function)
    return function


def taken_flags(arguments: dict[str, Any]) -> dict[str, str | None]:
    """Remove the flags of settings from the arguments of a command, and return them."""
    return {setting.name: arguments.pop(setting.name) for setting in SETTINGS if setting.name in arguments}


def load_flags(flags: Mapping[str, str | None]) -> Settings:
    """Return the settings, and configure logging. Raises `ConfigurationError`."""
    settings = load_settings(flags, os.environ)
    configure_logging(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
    for warning in settings.warnings:
        logger.warning("%s", warning)
    return settings


def _option(setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    text = f"{setting.help} [{setting.default_help.replace('`', '')}]"
    if setting.switch:
        return click.option(
            setting.flag, setting.name, cls=SettingOption, flag_value="true", default=None, help=text
        )
    return click.option(setting.flag, setting.name, cls=SettingOption, metavar=_metavar(setting), help=text)


def _metavar(setting: Setting) -> str:
    allowed = setting.allowed.partition(";")[0]
    if allowed.startswith("a whole number"):
        return "NUMBER"
    if allowed.startswith("a time"):
        return "TIME"
    choices = [choice.strip("`") for choice in allowed.replace(" or ", ", ").split(", ")]
    if all(choice.isalnum() for choice in choices):
        return "|".join(choices)
    return setting.name.rpartition("_")[2].upper()
