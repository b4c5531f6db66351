"""Messages for failed calls: what happened, and what to do next."""

from __future__ import annotations

from typing import Final

from token_service.cli.exit_codes import CommandFailedError, exit_code
from token_service.cli.output import visible
from token_service.cli.remote.connection import Connection
from token_service.durations import duration_text
from token_service.errors import Reason, ServiceError

_LISTED_BY: Final = {Reason.KEY_NOT_FOUND: "keys list", Reason.CLIENT_NOT_FOUND: "clients list"}


def failure(error: ServiceError, connection: Connection) -> CommandFailedError:
    """Return the failure of a command whose call failed."""
    if error.metadata.get("grpc_code") == "UNIMPLEMENTED":
        return CommandFailedError(
            f"the service at {connection.target} does not have this call; update its nodes to the version of this command",
            exit_code(error),
        )
    next_step = _next_step(error, connection)
    return CommandFailedError(
        visible(error.message + (f"; {next_step}" if next_step else "")), exit_code(error)
    )


def _next_step(error: ServiceError, connection: Connection) -> str:
    if error.reason is Reason.UNREACHABLE:
        return _reach(connection)
    if error.reason is Reason.CALLER_UNAUTHENTICATED:
        if connection.has_proof:
            return f"the service at {connection.target} did not accept the credentials: check that they are those of this service"
        return (
            "this command has no credentials: set TOKEN_SERVICE_CLIENT_ID and TOKEN_SERVICE_CLIENT_SECRET_FILE, "
            "or give --tls-cert and --tls-key, or --connection"
        )
    if error.reason is Reason.PERMISSION_DENIED:
        right = error.metadata.get("permission", "")
        return f"give the caller the permission {right}" if right else "give the caller the right"
    if error.reason is Reason.DEADLINE_EXCEEDED:
        return f"the call had {duration_text(connection.timeout)}; try again, or give a longer --timeout"
    if error.reason in _LISTED_BY:
        return f"`token-service {_LISTED_BY[error.reason]}` shows all"
    if error.retry_after is not None:
        return f"try again in {duration_text(max(0.001, error.retry_after))}"
    return ""


def _reach(connection: Connection) -> str:
    if connection.plain:
        return f"check that the target {connection.target} is the gRPC address of the service; if it uses TLS, give --tls-ca"
    return (
        f"check that the target {connection.target} is the gRPC address of the service, that --tls-ca has the authority of "
        "its certificate, and that it takes these credentials: an address that demands client certificates needs "
        "--tls-cert and --tls-key"
    )
