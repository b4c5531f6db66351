"""`token-service keys list`, `prepare`, `activate`, `retire` and `revoke`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.keys.actions import keys_of
from token_service.cli.keys.administration import (
    KeyCommand,
    format_option,
    key_id_argument,
)
from token_service.cli.keys.shown_key import show_key, show_keys
from token_service.cli.output import show_message, timestamp_text
from token_service.cli.progress import quiet_option
from token_service.cli.remote.options import answer_no
from token_service.cli.remote.place import place_options
from token_service.config import Settings
from token_service.core.keys.store import SigningKeyState
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS, RSA_SIZES

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service


@click.command("list", cls=SettingsCommand)
@place_options
@format_option
@click.option(
    "--state",
    type=click.Choice([state.value for state in SigningKeyState]),
    default=None,
    help="Only keys in this state.",
)
def list_(place: Settings | Service, output: str, state: str | None) -> None:
    """Show all signing keys, newest first. Private keys are never shown.

    \b
    Examples:
      token-service keys list
      token-service keys list --connection production -o json
      token-service keys list --state active -o id
    """
    keys = keys_of(place).list()
    show_keys([key for key in keys if state in {None, key.state}], output)


@click.command("prepare", cls=SettingsCommand)
@place_options
@format_option
@click.option(
    "--algorithm",
    type=click.Choice([algorithm.value for algorithm in PUBLIC_KEY_ALGORITHMS]),
    default=None,
    help="The algorithm of the key; by default the one that signs new tokens.",
)
@click.option(
    "--rsa-bits",
    type=click.Choice([str(bits) for bits in RSA_SIZES]),
    default=None,
    help="The size of an RSA key; by default as configured.",
)
def prepare(place: Settings | Service, output: str, algorithm: str | None, rsa_bits: str | None) -> None:
    """Create a key and publish it. It does not sign until it is activated.

    Each call creates another key. The service always keeps one prepared key, so you need this command only for further
    keys.

    \b
    Examples:
      token-service keys prepare
      token-service keys prepare --algorithm RS256 --rsa-bits 4096
      key=$(token-service keys prepare -o id)
    """
    show_key(keys_of(place).prepare(algorithm or "", int(rsa_bits or 0)), output)


@click.command("activate", cls=KeyCommand, short_help="Activate a prepared key.")
@place_options
@format_option
@key_id_argument
@click.option(
    "--force",
    is_flag=True,
    help="Activate even if validators may not know the key yet; until they do, they refuse its tokens.",
)
def activate(place: Settings | Service, output: str, key_id: str, *, force: bool) -> None:
    """Activate a prepared key; the active key retires.

    Refused until the key has been published for KEY_ANNOUNCE_TIME, or every connected subscriber has confirmed
    it. Succeeds if the key is already active.

    \b
    Examples:
      token-service keys activate KEY_ID
      token-service keys activate --force KEY_ID
    """
    show_key(keys_of(place).activate(key_id, force=force), output)


@click.command("retire", cls=KeyCommand)
@place_options
@format_option
@key_id_argument
@click.option(
    "--dry-run", is_flag=True, help="Show what still needs the key, and change nothing. Needs --target."
)
def retire(place: Settings | Service, output: str, key_id: str, *, dry_run: bool) -> None:
    """Retire a key, so that it no longer signs. Its tokens stay valid: the key is published until the last one expires.

    If the key is active, the oldest prepared key replaces it. Succeeds if the key is already retired. With --dry-run the exit
    code is 6 if it can't be retired now.

    \b
    Examples:
      token-service keys retire KEY_ID
      token-service keys retire KEY_ID --connection production --dry-run
    """
    if dry_run:
        _preview(place, key_id, output)
        return
    show_key(keys_of(place).retire(key_id), output)


@click.command("revoke", cls=KeyCommand, short_help="Revoke a key and all of its tokens.")
@place_options
@format_option
@key_id_argument
@click.option("--comment", default="", help="A remark for the audit trail.")
@click.option(
    "--wait",
    type=click.FloatRange(0, 60),
    default=None,
    metavar="SECONDS",
    help="Wait at most this long for the confirmation of all connected subscribers, and show their number. Exit code 6 if "
    "not all confirm.",
)
@quiet_option
def revoke(
    place: Settings | Service, output: str, key_id: str, comment: str, wait: float | None, *, quiet: bool
) -> None:
    """Revoke a key. The key and every token that it signed are refused at once and permanently.

    Use this for a compromised key; to replace a sound key, retire it. Another key signs at once. Validators receive
    the revocation like any other. Succeeds if the key is already revoked.

    \b
    Examples:
      token-service keys revoke KEY_ID --comment "the disk was stolen"
      token-service keys revoke KEY_ID --wait 10
    """
    key, (connected, applied) = keys_of(place).revoke(key_id, comment, wait, quiet=quiet)
    show_key(key, output)
    if wait is not None:
        click.echo(f"{applied} of {connected} connected subscribers have confirmed", err=True)
        if applied < connected:
            answer_no()


def _preview(place: Settings | Service, key_id: str, output: str) -> None:
    if isinstance(place, Settings):
        raise click.UsageError(
            "--dry-run asks a running service about its validators: give --target or --connection"
        )
    from token_service.v1.admin_service_pb2 import PreviewKeyRetirementRequest

    preview = place.call(place.admin.PreviewKeyRetirement, PreviewKeyRetirementRequest(key_id=key_id))
    show_message(preview, output, _preview_lines)
    if not preview.allowed:
        answer_no()


def _preview_lines(preview: Any) -> Sequence[tuple[str, str]]:
    return [
        ("can be retired", "yes" if preview.allowed else "no"),
        ("problem", preview.problem),
        ("from", timestamp_text(preview, "allow_time") if preview.HasField("allow_time") else ""),
        ("tokens expire by", timestamp_text(preview, "tokens_expire_time")),
        ("validators without another key", str(preview.subscribers_without_successor)),
        ("of this node", " ".join(preview.subscribers)),
        ("at other nodes", " ".join(preview.nodes)),
    ]
