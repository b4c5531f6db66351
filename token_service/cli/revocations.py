"""`token-service revocations`: the live revocations of a running service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_messages, timestamp_text
from token_service.cli.pages import first_of
from token_service.cli.remote.options import service_options
from token_service.tokens.revocation import RevocationReason

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

_IDS: Final = {
    "subject": "subject",
    "client": "client_id",
    "session": "session_id",
    "token_id": "token_id",
    "key": "key_id",
}
"""The target in the request for each option."""
_TARGETS: Final = (*_IDS.values(), "everything")
_REASONS: Final = [each.name.lower() for each in RevocationReason if each]
_HEADER: Final = ("REVOKED", "TARGET", "ID", "REASON", "BY", "COMMENT", "ENDS")


def _target_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each kind of target, and call the command with `target` and `target_id`."""

    @wraps(function)
    def choose(**arguments: Any) -> None:
        given = {target: value for name, target in _IDS.items() if (value := arguments.pop(name)) is not None}
        kind = arguments.pop("kind")
        if len(given) + (kind is not None) > 1:
            raise click.UsageError(
                "give at most one of --subject, --client, --session, --token-id, --key and --kind"
            )
        target, target_id = next(iter(given.items()), (kind or "", ""))
        function(target=target, target_id=target_id, **arguments)

    decorated: Callable[..., None] = choose
    for option in (
        click.option("--kind", type=click.Choice(_TARGETS), default=None, help="Every target of one kind."),
        click.option("--key", default=None, help="A signing key."),
        click.option("--token-id", default=None, help="One token, by its `jti`."),
        click.option("--session", default=None, help="A session."),
        click.option("--client", default=None, help="A client."),
        click.option("--subject", default=None, help="A subject."),
    ):
        decorated = option(decorated)
    return decorated


@click.group("revocations")
def command() -> None:
    """Show the live revocations.

    A revocation is listed until no token that it revokes can be valid any more. `explain-revocation` also finds older
    ones, in the audit trail.

    \b
    Example:
      token-service revocations list --connection production --subject alice
    """


@command.command("list", cls=SettingsCommand)
@service_options
@_target_options
@output_option
@click.option("--reason", type=click.Choice(_REASONS), default=None, help="Only revocations for this reason.")
@click.option(
    "--limit", type=click.IntRange(1), default=200, show_default=True, help="The largest number of entries."
)
def list_(
    service: Service, target: str, target_id: str, output: str, *, reason: str | None, limit: int
) -> None:
    """Show the live revocations, newest first, with comment and actor. The caller needs `admin.read`.

    \b
    Examples:
      token-service revocations list --target 127.0.0.1:50051
      token-service revocations list --connection production --kind everything
      token-service revocations list --connection production --reason compromised -o json
    """
    from token_service.v1.admin_service_pb2 import ListRevocationsRequest, LiveRevocation

    def fetch(size: int, token: str) -> tuple[Sequence[LiveRevocation], str]:
        request = ListRevocationsRequest(
            target=target,
            id=target_id,
            reason=f"REVOCATION_REASON_{(reason or 'unspecified').upper()}",
            page_size=size,
            page_token=token,
        )
        page = service.call(service.admin.ListRevocations, request)
        return page.revocations, page.next_page_token

    show_messages(first_of(fetch, limit), output, _HEADER, _row)


def _row(found: Any) -> Sequence[str]:
    from token_service.v1.token_service_pb2 import RevocationReason

    entry = found.revocation
    target = entry.WhichOneof("target")
    return (
        timestamp_text(entry, "revoke_time"),
        target.replace("_id", ""),
        "" if target == "everything" else getattr(entry, target),
        RevocationReason.Name(entry.reason).removeprefix("REVOCATION_REASON_").lower(),
        found.actor,
        found.comment,
        timestamp_text(entry, "expire_time"),
    )
