"""`token-service risk replay`."""

from __future__ import annotations

import asyncio
import math
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from token_service.cli.audit.trail import on_trail
from token_service.cli.help_sections import SettingsCommand
from token_service.cli.output import output_option, show_json, show_line, show_table, time_text
from token_service.cli.progress import Progress, quiet_option
from token_service.cli.risk.rules_file import read_document, rules_option
from token_service.cli.settings_options import settings_options
from token_service.cli.values import moment
from token_service.config import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from token_service.app.audit import AuditTrail
    from token_service.core.risk.replay import Outcome, RecordedUse


@click.command(
    "replay", cls=SettingsCommand, short_help="Tell what rules would have said about recorded uses."
)
@settings_options
@rules_option
@click.option(
    "--from",
    "start",
    callback=moment,
    default="24h",
    show_default=True,
    metavar="TIME",
    help="The first time (UTC), or a span before now such as 24h.",
)
@click.option("--to", "end", callback=moment, metavar="TIME", help="Before this time (UTC). Default: now.")
@click.option(
    "--input",
    "source",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Replay the uses of this file, one a line as JSON, instead of the audit trail.",
)
@output_option
@quiet_option
def replay(
    settings: Settings,
    rules: Path | None,
    output: str,
    *,
    start: float,
    end: float | None,
    source: Path | None,
    quiet: bool,
) -> None:
    """Replay the uses of a time range through rules, and tell what would have followed. Changes nothing.

    The audit trail has uses only with `audit_routine` of `sql` or `events`. Without --rules those of the configured policy
    file are taken. Classifications are those of the policy file.

    \b
    Examples:
      token-service risk replay --rules changed.toml --from 24h
      token-service risk replay --rules changed.toml --from 2026-11-29 --to 2026-11-30 -o json
      token-service risk replay --rules changed.toml --input workload.jsonl
    """
    from token_service.app.locations import Locations
    from token_service.core.policies.policies import Policies
    from token_service.core.risk.replay import Replay

    path = rules or settings.policy_file
    if path is None:
        raise click.UsageError("no policy file is configured: name one with --rules")
    document = read_document(path)
    policies = Policies(document.book)
    made = Replay(
        document.risk,
        Locations().prepare(document.risk.locations),
        classification=policies.classification,
        access_token_ttl=lambda client_id: policies.of(client_id).access_token_ttl,
    )
    recorded: dict[str, int] = {}
    if source is not None:
        uses = _uses_of_file(source)
    else:
        uses = on_trail(settings, _reading(start, time.time() if end is None else end, recorded, quiet=quiet))
        if not uses:
            show_line(
                "The audit trail has no uses of sessions in this range: set TOKEN_SERVICE_AUDIT_ROUTINE to sql or events.",
                err=True,
            )
    outcome = asyncio.run(made.replay(uses))
    _show(outcome, recorded, output)


def _reading(
    start: float, end: float, recorded: dict[str, int], *, quiet: bool
) -> Callable[[AuditTrail], Any]:
    from token_service.core.reports.trail.period import Period
    from token_service.core.reports.trail.reading import read
    from token_service.core.reports.trail.uses import UseCollector

    try:
        period = Period.of(math.floor(start), math.ceil(end))
    except ValueError as error:
        raise click.UsageError(f"the range of --from and --to {error}") from None

    async def work(trail: AuditTrail) -> Sequence[RecordedUse]:
        collectors: list[UseCollector] = []

        def begin() -> Callable[[Any], None]:
            collectors.append(UseCollector())
            return collectors[-1].take

        with Progress("events read", quiet=quiet) as progress:
            await read(trail.store, period, begin, progress.show)
        recorded.update(collectors[-1].recorded)
        return collectors[-1].sorted()

    return work


def _uses_of_file(path: Path) -> Sequence[RecordedUse]:
    import msgspec

    from token_service.core.reports.trail.uses import MAX_USES
    from token_service.core.risk.replay import RecordedUse

    decode = msgspec.json.Decoder(RecordedUse).decode
    uses = []
    try:
        with path.open("rb") as file:
            for number, line in enumerate(file, 1):
                if number > MAX_USES:
                    raise click.ClickException(f"{path} has more than {MAX_USES:,} uses; divide it")
                try:
                    uses.append(decode(line))
                except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                    raise click.ClickException(f"{path}, line {number}: {error}") from None
    except OSError as error:
        raise click.ClickException(f"{path}: {error.strerror or error}") from None
    return sorted(uses, key=lambda use: use.time)


def _show(outcome: Outcome, recorded: dict[str, int], output: str) -> None:
    from token_service.core.risk.verdict import ACTIONS

    if output == "json":
        show_json(
            {
                "uses": outcome.uses,
                "sessions": outcome.sessions,
                "prevented": outcome.prevented,
                "verdicts": dict(sorted(outcome.verdicts.items())),
                "recorded_verdicts": dict(sorted(recorded.items())),
                "signals": dict(sorted(outcome.signals.items())),
                "examples": [
                    {
                        "time": use.time,
                        "session_id": use.session_id,
                        "client_id": use.client_id,
                        "verdict": verdict.fields(),
                    }
                    for use, verdict in outcome.examples
                ],
            }
        )
        return
    show_table(
        ["ACTION", "VERDICTS", "SESSIONS", "RECORDED THEN"],
        [
            [
                action.value,
                str(outcome.verdicts[action.value]),
                str(len(outcome.sessions_with.get(action.value, ()))),
                str(recorded.get(action.value, 0)),
            ]
            for action in ACTIONS
        ],
    )
    show_line(
        f"{outcome.uses:,} uses of {outcome.sessions:,} sessions; {outcome.prevented:,} uses came after a revocation that would have "
        "refused them"
    )
    for use, verdict in outcome.examples:
        show_line(f"{time_text(use.time)}  session {use.session_id or '-'}  {verdict.explain()}")
