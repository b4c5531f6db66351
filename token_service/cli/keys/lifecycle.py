"""`token-service keys list`, `prepare`, `activate`, `retire` and `revoke`."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from token_service.cli.keys.administration import (
    KeyCommand,
    administer,
    format_option,
    key_id_argument,
    show_one,
    shown,
)
from token_service.cli.settings_options import SettingsCommand, settings_options
from token_service.config import Settings
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.tokens.algorithms import RSA_SIZES, Algorithm

if TYPE_CHECKING:
    from token_service.app.administration import Keys
    from token_service.core.keys.administration import SigningKeys

_PUBLIC_KEY_ALGORITHMS = [
    algorithm.value for algorithm in (Algorithm.RS256, Algorithm.ES256, Algorithm.EDDSA)
]


@click.command("list", cls=SettingsCommand)
@settings_options
@format_option
@click.option(
    "--state",
    type=click.Choice([state.value for state in SigningKeyState]),
    default=None,
    help="Only keys in this state.",
)
def list_(settings: Settings, format_: str, state: str | None) -> None:
    """Show all signing keys, newest first. Private keys are never shown.

    \b
    Examples:
      token-service keys list
      token-service keys list --format json
      token-service keys list --state active --format id
    """

    async def load(keys: Keys) -> Sequence[StoredSigningKey]:
        return [key for key in keys.keyring.signing_keys() if state in {None, key.state.value}]

    text = shown(administer(settings, load), format_)
    if text:
        click.echo(text)


@click.command("prepare", cls=SettingsCommand)
@settings_options
@format_option
@click.option(
    "--algorithm",
    type=click.Choice(_PUBLIC_KEY_ALGORITHMS),
    default=None,
    help="The algorithm of the key; by default the one that signs new tokens.",
)
@click.option(
    "--rsa-bits",
    type=click.Choice([str(bits) for bits in RSA_SIZES]),
    default=None,
    help="The size of an RS256 key; by default as configured.",
)
def prepare(settings: Settings, format_: str, algorithm: str | None, rsa_bits: str | None) -> None:
    """Create a key and publish it. It does not sign until it is activated.

    Each call creates another key. The service always keeps one prepared key, so you need this command only for further
    keys.

    \b
    Examples:
      token-service keys prepare
      token-service keys prepare --algorithm RS256 --rsa-bits 4096
      key=$(token-service keys prepare --format id)
    """

    async def make(keys: Keys) -> StoredSigningKey:
        return await _signing_keys(keys).prepare(keys.operator, algorithm or "", int(rsa_bits or 0))

    show_one(administer(settings, make), format_)


@click.command("activate", cls=KeyCommand, short_help="Activate a prepared key.")
@settings_options
@format_option
@key_id_argument
@click.option(
    "--force",
    is_flag=True,
    help="Activate even if validators may not know the key yet; until they do, they refuse its tokens.",
)
def activate(settings: Settings, format_: str, key_id: str, *, force: bool) -> None:
    """Activate a prepared key; the active key retires.

    Refused until the key has been published for KEY_ANNOUNCE_TIME, or every connected subscriber has confirmed
    it. Succeeds if the key is already active.

    \b
    Examples:
      token-service keys activate KEY_ID
      token-service keys activate --force KEY_ID
    """

    async def change(keys: Keys) -> StoredSigningKey:
        return await _signing_keys(keys).activate(keys.operator, key_id, force=force)

    show_one(administer(settings, change), format_)


@click.command("retire", cls=KeyCommand)
@settings_options
@format_option
@key_id_argument
def retire(settings: Settings, format_: str, key_id: str) -> None:
    """Retire a key, so that it no longer signs. Its tokens stay valid: the key is published until the last one expires.

    If the key is active, the oldest prepared key replaces it. Succeeds if the key is already retired.

    \b
    Example:
      token-service keys retire KEY_ID
    """

    async def change(keys: Keys) -> StoredSigningKey:
        return await _signing_keys(keys).retire(keys.operator, key_id)

    show_one(administer(settings, change), format_)


@click.command("revoke", cls=KeyCommand, short_help="Revoke a key and all of its tokens.")
@settings_options
@format_option
@key_id_argument
@click.option("--comment", default="", help="A remark for the audit log.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 60),
    default=None,
    metavar="SECONDS",
    help="Wait at most this long for the confirmation of all connected subscribers, and show their number. Exit code 1 if "
    "not all confirm.",
)
def revoke(settings: Settings, format_: str, key_id: str, comment: str, wait: float | None) -> None:
    """Revoke a key. The key and every token that it signed are refused at once and permanently.

    Use this for a compromised key; to replace a sound key, retire it. Another key signs at once. Validators receive
    the revocation like any other. Succeeds if the key is already revoked.

    \b
    Examples:
      token-service keys revoke KEY_ID --comment "the disk was stolen"
      token-service keys revoke KEY_ID --wait 10
    """

    async def change(keys: Keys) -> tuple[StoredSigningKey, tuple[int, int]]:
        cursor = await keys.revoke(key_id, time.time(), comment)
        counts = (0, 0) if wait is None else await keys.wait_applied(cursor, wait)
        return keys.keyring.get(key_id), counts

    key, (connected, applied) = administer(settings, change)
    show_one(key, format_)
    if wait is not None:
        click.echo(f"{applied} of {connected} connected subscribers have confirmed", err=True)
        if applied < connected:
            sys.exit(1)


def _signing_keys(keys: Keys) -> SigningKeys:
    """Return the use cases that nodes offer over gRPC."""
    from token_service.core.keys.administration import SigningKeys

    return SigningKeys(keys.keyring, keys.manager)
