"""The settings as flags of a command."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from token_service.config import SETTINGS, LogFormat, Setting, load_settings
from token_service.telemetry import configure_logging

logger = logging.getLogger(__name__)


def settings_options(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command a flag for every setting that has one, and call it with `settings` and what is left.

    Configures logging. Raises `ConfigurationError`.
    """

    @wraps(function)
    def load(**arguments: Any) -> None:
        flags = {
            setting.name: arguments.pop(setting.name) for setting in SETTINGS if setting.name in arguments
        }
        settings = load_settings(flags, os.environ)
        configure_logging(settings.log_level, as_json=settings.log_format is LogFormat.JSON)
        for warning in settings.warnings:
            logger.warning("%s", warning)
        function(settings=settings, **arguments)

    decorated: Callable[..., None] = load
    for setting in reversed(SETTINGS):
        if not setting.secret:
            decorated = _option(setting)(decorated)
    return decorated


def _option(setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    text = f"{setting.help} [{setting.default_help.replace('`', '')}]"
    if setting.switch:
        return click.option(setting.flag, setting.name, flag_value="true", default=None, help=text)
    return click.option(setting.flag, setting.name, metavar=_metavar(setting), help=text)


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
