"""Settings as flags of a command, listed separately from its own options in the help."""

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
    """Add a flag for every non-secret setting to a command, and call it with `settings` and its own arguments.

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


class SettingsCommand(click.Command):
    """A command with `settings_options`. Its help begins with its own options."""

    lists_settings = False
    """Whether the help also lists the settings; otherwise it refers to a command that lists them."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options in two sections."""
        own: list[tuple[str, str]] = []
        settings: list[tuple[str, str]] = []
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                (settings if isinstance(parameter, _SettingOption) else own).append(record)
        with formatter.section("Options"):
            formatter.write_dl(own)
        if self.lists_settings:
            with formatter.section("Settings"):
                formatter.write_dl(settings)
        else:
            formatter.write_paragraph()
            formatter.write_text("Every setting is a flag, too; `token-service config --help` lists them.")


class ListingCommand(SettingsCommand):
    """A command whose help lists the settings."""

    lists_settings = True


class _SettingOption(click.Option):
    """The flag of a setting."""


def _option(setting: Setting) -> Callable[[Callable[..., None]], Callable[..., None]]:
    text = f"{setting.help} [{setting.default_help.replace('`', '')}]"
    if setting.switch:
        return click.option(
            setting.flag, setting.name, cls=_SettingOption, flag_value="true", default=None, help=text
        )
    return click.option(setting.flag, setting.name, cls=_SettingOption, metavar=_metavar(setting), help=text)


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
