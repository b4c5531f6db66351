"""Helpers of the key commands: their options, and work on the keys of the database."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

import click

from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.cli.help_sections import SettingsCommand
from token_service.config import Settings
from token_service.errors import KeyNotFoundError

if TYPE_CHECKING:
    from token_service.app.administration import Keys

T = TypeVar("T")

format_option = click.option(
    "-o",
    "--output",
    "--format",
    "output",
    type=click.Choice(["table", "json", "id"]),
    default="table",
    show_default=True,
    help="The output format; `id` shows only key ids, for scripts.",
)
_KEY_ID_LIKE_AN_OPTION = re.compile(r"-[A-Za-z0-9_-]{42}")
_MARK = "\0"


class KeyCommand(SettingsCommand):
    """A command with a key id as argument. One key id in 64 begins with a dash, as options do."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse arguments, with key ids that begin with a dash at any position."""
        return super().parse_args(
            ctx, [_MARK + each if _KEY_ID_LIKE_AN_OPTION.fullmatch(each) else each for each in args]
        )


key_id_argument = click.argument("key_id", callback=lambda _ctx, _param, text: text.removeprefix(_MARK))


def administer(settings: Settings, work: Callable[[Keys], Awaitable[T]]) -> T:
    """Call `work` with the keys of the database, and return its result."""
    from token_service.app.administration import administer_keys

    async def run() -> T:
        async with administer_keys(settings) as keys:
            return await work(keys)

    try:
        return asyncio.run(run())
    except KeyNotFoundError as error:
        raise CommandFailedError(
            f"{error.message}; `token-service keys list` shows all", ExitCode.NOT_FOUND
        ) from None
