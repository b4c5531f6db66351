"""Options that say which service a command calls."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.exit_codes import ExitCode
from token_service.cli.help_sections import ConnectionOption
from token_service.cli.remote.connection import Connection, find_connection
from token_service.errors import ServiceError

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

_NAMES: Final = (
    "target",
    "connection",
    "tls_ca",
    "tls_cert",
    "tls_key",
    "server_name",
    "insecure",
    "timeout",
)


def _option(*names: str, **attributes: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    return click.option(*names, cls=ConnectionOption, default=None, **attributes)


_OPTIONS: Final = (
    _option("--target", metavar="HOST:PORT", help="The gRPC address of a service. [TOKEN_SERVICE_TARGET]"),
    _option(
        "--connection",
        metavar="NAME",
        help="A connection of ~/.config/token-service/connections.toml. [TOKEN_SERVICE_CONNECTION]",
    ),
    _option(
        "--tls-ca",
        metavar="FILE",
        help="Authorities (PEM) of its certificate; by default those of the system.",
    ),
    _option("--tls-cert", metavar="FILE", help="A client certificate (PEM) that proves the caller."),
    _option("--tls-key", metavar="FILE", help="The private key of the client certificate."),
    _option(
        "--server-name", metavar="NAME", help="The name in its certificate, if it differs from the target."
    ),
    _option(
        "--insecure",
        flag_value="true",
        help="Connect without TLS. Addresses of this machine need no flag; elsewhere the network can read secrets.",
    ),
    _option("--timeout", metavar="TIME", help="How long one call may take. [10s]"),
)


def service_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the connection options to a command, and call it with `service`, a `Service`, and its own arguments.

    A failed call ends the command with a message and an exit code.
    """

    @wraps(function)
    def connect(**arguments: Any) -> None:
        connection = find_connection(taken_connection(arguments), os.environ)
        if connection is None:
            raise click.UsageError(
                "no service is named: give --target HOST:PORT or --connection NAME, or set TOKEN_SERVICE_TARGET"
            )
        call_service(connection, lambda service: function(service=service, **arguments))

    return with_connection_options(connect)


def taken_connection(arguments: dict[str, Any]) -> dict[str, str | None]:
    """Remove the connection options from the arguments of a command, and return them."""
    return {name: arguments.pop(name) for name in _NAMES}


def with_connection_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the connection options to a command."""
    for option in reversed(_OPTIONS):
        function = option(function)
    return function


def call_service(connection: Connection, work: Callable[[Service], None]) -> None:
    """Do `work` with a service. A failed call ends the command with a message and an exit code."""
    from token_service.cli.remote.failures import failure
    from token_service.cli.remote.service import Service

    try:
        with Service(connection) as service:
            work(service)
    except ServiceError as error:
        raise failure(error, connection) from None


def answer_no() -> None:
    """End the command, whose answer is no."""
    click.get_current_context().exit(ExitCode.NO)
