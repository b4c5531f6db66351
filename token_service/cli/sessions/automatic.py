"""`token-service sessions preview-rules`."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_messages
from token_service.cli.remote.options import service_options

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service


@click.command(
    "preview-rules",
    cls=SettingsCommand,
    short_help="Show what automatic revocation would revoke.",
)
@service_options
@output_option
def preview(service: Service, output: str) -> None:
    """Show each rule of automatic revocation in force, and how much it would revoke now. Changes nothing.

    The caller needs `admin.read`. docs/automatic-revocation.md describes the rules.

    \b
    Example:
      token-service sessions preview-rules --connection production
    """
    from token_service.v1 import session_service_pb2 as session_pb
    from token_service.v1.admin_service_pb2 import PreviewAutomaticRevocationRequest

    found = service.call(service.admin.PreviewAutomaticRevocation, PreviewAutomaticRevocationRequest())
    show_messages(
        found.rules,
        output,
        ("RULE", "CAUSE", "LIMIT", "REVOKES", "NOW", "DRY RUN"),
        lambda rule: (
            rule.rule,
            rule.cause,
            rule.limit,
            rule.revokes,
            ("at least " if rule.accuracy == session_pb.COUNT_ACCURACY_AT_LEAST else "") + str(rule.targets),
            "yes" if rule.dry_run else "no",
        ),
    )
