"""Helpers of the key commands: run work on the keys and show the result."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from token_service.cli.settings_options import SettingsCommand
from token_service.config import Settings
from token_service.core.keys.store import StoredSigningKey
from token_service.errors import KeyNotFoundError

if TYPE_CHECKING:
    from token_service.app.administration import Keys

T = TypeVar("T")

format_option = click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "json", "id"]),
    default="text",
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
        raise click.ClickException(f"{error.message}; `token-service keys list` shows all") from None


def shown(keys: Sequence[StoredSigningKey], format_: str) -> str:
    """Format keys as text, a JSON list, or one id per line."""
    if format_ == "json":
        return json.dumps([_members(key) for key in keys], indent=2)
    if format_ == "id":
        return "\n".join(key.key_id for key in keys)
    rows = [("KEY ID", "ALGORITHM", "STATE", "CREATED")]
    rows += [(key.key_id, key.algorithm.value, key.state.value, _time(key.create_time) or "") for key in keys]
    return "\n".join(
        f"{kid:<43}  {algorithm:<9}  {state:<8}  {created}" for kid, algorithm, state, created in rows
    )


def show_one(key: StoredSigningKey, format_: str) -> None:
    """Print a changed key."""
    click.echo(json.dumps(_members(key), indent=2) if format_ == "json" else shown([key], format_))


def _members(key: StoredSigningKey) -> dict[str, Any]:
    return {
        "key_id": key.key_id,
        "algorithm": key.algorithm.value,
        "state": key.state.value,
        "provider": key.provider,
        "wrapping_key_id": key.wrapping_key_id,
        "certificates": len(key.certificates),
        "create_time": _time(key.create_time),
        "activate_time": _time(key.activate_time),
        "retire_time": _time(key.retire_time),
        "revoke_time": _time(key.revoke_time),
    }


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
