"""`token-service subjects export` and `erase`: a person's requests, over gRPC."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from itertools import groupby
from typing import TYPE_CHECKING, Any, Final

import click

from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_json, show_message
from token_service.cli.progress import Progress, quiet_option
from token_service.cli.remote.options import service_options
from token_service.errors import ServiceError

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service
    from token_service.v1.admin_service_pb2 import EraseSubjectResponse, ExportSubjectResponse

_TIMEOUT: Final = 60.0
"""Seconds for one part: the first one waits after the revocation, and a dry run reads every audit event."""


@click.group("subjects")
def command() -> None:
    """Export or erase what the service holds about a subject.

    These commands call a running service: name it with --target or --connection. docs/subjects.md lists the exported
    sections, and the data that an erasure leaves.

    \b
    Examples:
      token-service subjects export --connection production --subject alice > alice.json
      token-service subjects erase --connection production --subject alice --dry-run
    """


@command.command("export", cls=SettingsCommand, short_help="Write what the service holds about a subject.")
@service_options
@click.option("--subject", required=True, help="The subject.")
@click.option("--comment", default="", help="A remark for the audit trail.")
@quiet_option
def export(service: Service, subject: str, comment: str, *, quiet: bool) -> None:
    """Write everything that the service holds about a subject as one JSON document.

    The document is written page by page. If the command fails, the document is incomplete: repeat the command. Every page
    is an audit event. The caller needs `admin.write`.

    \b
    Example:
      token-service subjects export --connection production --subject alice > alice.json
    """
    from token_service.core.administration.subjects.export import SCHEMA_VERSION, SECTIONS
    from token_service.core.administration.subjects.records import time_text

    written = 0
    with Progress("records", quiet=quiet or sys.stdout.isatty()) as progress:
        head = {"schema_version": SCHEMA_VERSION, "subject": subject, "export_time": time_text(time.time())}
        click.echo(json.dumps(head, indent=1)[:-2], nl=False)
        left = list(SECTIONS)
        records = (
            (each.section, each.record) for page in _pages(service, subject, comment) for each in page.records
        )
        for section, found in groupby(records, key=lambda pair: pair[0]):
            while left and left[0] != section:
                click.echo(f',\n "{left.pop(0)}": []', nl=False)
            left = left[1:]
            click.echo(f',\n "{section}": [', nl=False)
            for number, (_, record) in enumerate(found):
                click.echo(("," if number else "") + "\n  " + json.dumps(_plain(record)), nl=False)
                written += 1
                progress.show(written)
            click.echo("\n ]", nl=False)
        for section in left:
            click.echo(f',\n "{section}": []', nl=False)
        click.echo("\n}")


@command.command("erase", cls=SettingsCommand, short_help="Revoke and erase a subject.")
@service_options
@click.option("--subject", required=True, help="The subject.")
@click.option("--comment", default="", help="A remark, which is erased with the event of the revocation.")
@click.option("--dry-run", is_flag=True, help="Count what would be erased, and change nothing.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@output_option
@quiet_option
def erase(
    service: Service, subject: str, comment: str, output: str, *, dry_run: bool, yes: bool, quiet: bool
) -> None:
    """Revoke every token of a subject, then erase what the service holds about it. It can't be undone.

    A command that failed can be repeated: it erases the rest. The audit trail still verifies. The caller needs
    `admin.write`.

    \b
    Examples:
      token-service subjects erase --connection production --subject alice --dry-run
      token-service subjects erase --connection production --subject alice --yes
    """
    from token_service.v1.admin_service_pb2 import EraseSubjectRequest

    request = EraseSubjectRequest(subject=subject, comment=comment, dry_run=dry_run or not yes)
    if request.dry_run:
        found = service.call(service.admin.EraseSubject, request, timeout=_TIMEOUT)
        if dry_run:
            if output == "table":
                click.echo("would erase, after the revocation of the subject:")
            show_message(found, output, _lines)
            return
        click.confirm(
            f"Revoke every token of {subject}, and erase {found.sessions} sessions and the personal fields of "
            f"{found.events} audit events?",
            abort=True,
            err=True,
        )
        request.dry_run = False
    try:
        with Progress("rows erased", quiet=quiet) as progress:
            while True:
                done = service.call(service.admin.EraseSubject, request, timeout=_TIMEOUT)
                progress.show(done.sessions + done.events + done.device_requests)
                if not done.next_page_token:
                    break
                request.page_token = done.next_page_token
    except (KeyboardInterrupt, ServiceError):
        click.echo("Stopped: a part is erased. Repeat the command to erase the rest.", err=True)
        raise
    if output == "json":
        show_json({name: str(getattr(done, name)) for name in ("sessions", "events", "device_requests")})
    else:
        click.echo("erased, after the revocation of the subject:")
        show_message(done, output, _lines)


def _pages(service: Service, subject: str, comment: str) -> Iterator[ExportSubjectResponse]:
    from token_service.v1.admin_service_pb2 import ExportSubjectRequest

    request = ExportSubjectRequest(subject=subject, comment=comment)
    while True:
        page = service.call(service.admin.ExportSubject, request, timeout=_TIMEOUT)
        yield page
        if not page.next_page_token:
            return
        request.page_token = page.next_page_token


def _plain(record: Any) -> dict[str, Any]:
    from token_service.core.limits import Checks
    from token_service.rpc.convert.values import json_of_struct

    return json_of_struct(record, "record", Checks())


def _lines(message: EraseSubjectResponse) -> Sequence[tuple[str, str]]:
    return [
        ("sessions", str(message.sessions)),
        ("audit events", str(message.events)),
        ("device requests", str(message.device_requests)),
        ("pending logouts", str(message.pending_logouts) if message.pending_logouts else ""),
    ]
