"""`token-service sessions list` and `get`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_message, show_messages, timestamp_text
from token_service.cli.pages import first_of
from token_service.cli.remote.options import service_options

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

_FILTERS: Final = {"subject": "subject", "client": "client_id", "device": "device_id"}
"""The field of the request for each option."""
_HEADER: Final = ("SESSION ID", "STATE", "SUBJECT", "CLIENT", "STARTED", "LAST USED", "EXPIRES", "FROM")


def _owner_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add an option for each kind of owner, and call the command with `owner`, the one field of a request."""

    @wraps(function)
    def choose(**arguments: Any) -> None:
        owner = {
            field: value for name, field in _FILTERS.items() if (value := arguments.pop(name)) is not None
        }
        if len(owner) != 1:
            raise click.UsageError("give one of --subject, --client and --device")
        function(owner=owner, **arguments)

    decorated: Callable[..., None] = choose
    for option in (
        click.option("--device", default=None, help="The sessions of a device."),
        click.option("--client", default=None, help="The sessions of a client."),
        click.option("--subject", default=None, help="The sessions of a subject."),
    ):
        decorated = option(decorated)
    return decorated


@click.command("list", cls=SettingsCommand, short_help="Show the sessions of a subject, client or device.")
@service_options
@_owner_options
@output_option
@click.option("--active", is_flag=True, help="Leave out sessions that are expired or revoked.")
@click.option(
    "--limit", type=click.IntRange(1), default=200, show_default=True, help="The largest number of sessions."
)
def list_(service: Service, owner: dict[str, str], output: str, *, active: bool, limit: int) -> None:
    """Show the sessions of a subject, client or device, newest first. The caller needs `admin.read`.

    \b
    Examples:
      token-service sessions list --target 127.0.0.1:50051 --subject alice
      token-service sessions list --connection production --client web --active -o json
    """
    from token_service.v1.session_service_pb2 import ListSessionsRequest, Session

    def fetch(size: int, token: str) -> tuple[Sequence[Session], str]:
        page = service.call(
            service.sessions.ListSessions,
            ListSessionsRequest(active_only=active, page_size=size, page_token=token, **owner),
        )
        return page.sessions, page.next_page_token

    show_messages(first_of(fetch, limit), output, _HEADER, _row)


@click.command("get", cls=SettingsCommand)
@service_options
@output_option
@click.argument("session_id")
def get(service: Service, output: str, session_id: str) -> None:
    """Show one session: its owner, state, times and origin. Exit code 4 if there is none. The caller needs `admin.read`.

    \b
    Example:
      token-service sessions get --connection production 1b4e28ba-2fa1-41d2-883f-0016d3cca427
    """
    from token_service.v1.session_service_pb2 import GetSessionRequest

    response = service.call(service.sessions.GetSession, GetSessionRequest(session_id=session_id))
    show_message(response.session, output, _lines)


def _state(session: Any) -> str:
    from token_service.v1.session_service_pb2 import SessionState

    return SessionState.Name(session.state).removeprefix("SESSION_STATE_").lower()


def _row(session: Any) -> Sequence[str]:
    return (
        session.session_id,
        _state(session),
        session.subject,
        session.client_id,
        timestamp_text(session, "create_time"),
        timestamp_text(session, "last_use_time"),
        timestamp_text(session, "absolute_expire_time"),
        session.last_used_from.ip_address,
    )


def _lines(session: Any) -> Sequence[tuple[str, str]]:
    from token_service.v1.session_service_pb2 import RevokedThrough
    from token_service.v1.token_service_pb2 import RevocationReason

    lines = [
        ("session_id", session.session_id),
        ("state", _state(session)),
        ("subject", session.subject),
        ("client_id", session.client_id),
        ("device_id", session.device_id),
        ("name", session.personal_access_token_name),
        ("upstream", session.upstream),
        ("scopes", " ".join(session.scopes)),
        ("audience", " ".join(session.audience)),
        ("acr", session.auth_context.acr),
        ("amr", " ".join(session.auth_context.amr)),
        ("refreshes", str(session.generation)),
        ("started", timestamp_text(session, "create_time")),
        ("started from", _place(session.created_from)),
        ("last used", timestamp_text(session, "last_use_time")),
        ("last used from", _place(session.last_used_from)),
        ("ends unused", timestamp_text(session, "idle_expire_time")),
        ("ends", timestamp_text(session, "absolute_expire_time")),
    ]
    if session.HasField("revoke_time"):
        lines += [
            ("revoked", timestamp_text(session, "revoke_time")),
            (
                "reason",
                RevocationReason.Name(session.revoke_reason).removeprefix("REVOCATION_REASON_").lower(),
            ),
            (
                "revoked through",
                RevokedThrough.Name(session.revoked_through).removeprefix("REVOKED_THROUGH_").lower(),
            ),
        ]
    return lines


def _place(context: Any) -> str:
    return " ".join(filter(None, (context.ip_address, context.user_agent)))
