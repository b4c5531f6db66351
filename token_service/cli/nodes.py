"""`token-service nodes`: list the running nodes, over gRPC."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_messages, span_text, timestamp_text
from token_service.cli.remote.options import service_options

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service

HEADER: Final = (
    "NODE",
    "VERSION",
    "STARTED",
    "READY",
    "STALENESS",
    "SUBSCRIBERS",
    "DATABASE",
    "REDIS",
    "CERTIFICATE EXPIRES",
    "JOBS",
)


@click.command("nodes", cls=SettingsCommand)
@service_options
@output_option
def command(service: Service, output: str) -> None:
    """Show the running nodes: version, readiness, staleness, connections to the database, jobs. The caller needs
    `admin.read`.

    \b
    Example:
      token-service nodes --connection production
    """
    from token_service.v1.admin_service_pb2 import ListNodesRequest

    response = service.call(service.admin.ListNodes, ListNodesRequest())
    show_messages(response.nodes, output, HEADER, node_row)


def node_row(node: Any) -> Sequence[str]:
    """Return the cells of a node."""
    waiting = f" ({node.database_waiting} waiting)" if node.database_waiting else ""
    return (
        node.node_id,
        node.version or "-",
        timestamp_text(node, "start_time"),
        "yes" if node.ready else "no",
        span_text(node, "staleness"),
        str(node.subscribers),
        f"{node.database_connections}/{node.database_connections_max}{waiting}",
        node.redis,
        timestamp_text(node, "certificate_expire_time"),
        " ".join(node.jobs) or "-",
    )
