"""`token-service keys`."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from datetime import UTC, datetime

import click

from token_service.cli.settings_options import settings_options
from token_service.config import Settings
from token_service.core.ports import StoredSigningKey


@click.group("keys")
def command() -> None:
    """Look after the signing keys."""


@command.command("list")
@settings_options
@click.option(
    "--format", "format_", type=click.Choice(["text", "json"]), default="text", help="How to show them."
)
def list_(settings: Settings, format_: str) -> None:
    """Show all signing keys, newest first. Shows no private key.

    \b
    Examples:
      token-service keys list
      token-service keys list --format json
    """

    async def load() -> Sequence[StoredSigningKey]:
        async with administer_keys(settings) as keys:
            return keys.keyring.signing_keys()

    from token_service.bootstrap import administer_keys

    keys = asyncio.run(load())
    click.echo(_json(keys) if format_ == "json" else _text(keys))


def _text(keys: Sequence[StoredSigningKey]) -> str:
    rows = [("KEY ID", "ALGORITHM", "STATE", "CREATED")]
    rows += [(key.key_id, key.algorithm.value, key.state.value, _time(key.create_time) or "") for key in keys]
    return "\n".join(
        f"{kid:<43}  {algorithm:<9}  {state:<8}  {created}" for kid, algorithm, state, created in rows
    )


def _json(keys: Sequence[StoredSigningKey]) -> str:
    return json.dumps(
        [
            {
                "key_id": key.key_id,
                "algorithm": key.algorithm.value,
                "state": key.state.value,
                "wrapping_key_id": key.wrapping_key_id,
                "create_time": _time(key.create_time),
                "activate_time": _time(key.activate_time),
                "retire_time": _time(key.retire_time),
                "revoke_time": _time(key.revoke_time),
            }
            for key in keys
        ],
        indent=2,
    )


def _time(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
