"""`token-service risk rates`."""

from __future__ import annotations

import asyncio
from pathlib import Path

import click

from token_service.cli.output import output_option, show_json, show_line, show_table
from token_service.cli.risk.rules_file import read_document, recommended, recommended_text, rules_option


@click.command("rates", short_help="Measure detection and false positives on a synthetic workload.")
@rules_option
@click.option("--users", type=click.IntRange(10, 10_000), default=200, show_default=True, help="Users.")
@click.option("--days", type=click.IntRange(1, 31), default=7, show_default=True, help="Days.")
@click.option(
    "--incidents",
    type=click.IntRange(1, 1000),
    default=20,
    show_default=True,
    help="Incidents of each attack.",
)
@click.option("--seed", type=int, default=1, show_default=True, help="Another seed makes other users.")
@click.option(
    "--write",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Also write the workload: one use a line, as JSON.",
)
@click.option("--show-rules", is_flag=True, help="Only print the recommended rules.")
@output_option
def rates(
    rules: Path | None,
    output: str,
    *,
    users: int,
    days: int,
    incidents: int,
    seed: int,
    write: Path | None,
    show_rules: bool,
) -> None:
    """Measure rules on a synthetic workload: users with their habits, and attacks. The same options give the same numbers.

    Without --rules the recommended rules are measured.

    \b
    Examples:
      token-service risk rates
      token-service risk rates --rules changed.toml --users 1000 -o json
      token-service risk rates --write workload.jsonl
      token-service risk rates --show-rules
    """
    import msgspec

    from token_service.cli.risk.rates import measure
    from token_service.cli.risk.workload import ATTACKS, WorkloadSize, make_workload

    if show_rules:
        click.echo(recommended_text(), nl=False)
        return
    judged = recommended() if rules is None else read_document(rules).risk
    size = WorkloadSize(users=users, days=days, incidents=incidents, seed=seed)
    uses = make_workload(size)
    if write is not None:
        try:
            with write.open("wb") as file:
                file.writelines(msgspec.json.encode(use) + b"\n" for use in uses)
        except OSError as error:
            raise click.ClickException(f"{write}: {error.strerror or error}") from None
    found = asyncio.run(measure(judged, uses, users * days))
    if output == "json":
        show_json(msgspec.to_builtins(found))
        return
    show_table(
        ["ATTACK", "INCIDENTS", "DETECTED", "REFUSED", "MEANING"],
        [
            [
                each.attack,
                str(each.incidents),
                _share(each.detected, each.incidents),
                _share(each.refused, each.incidents),
                ATTACKS[each.attack],
            ]
            for each in found.attacks
        ],
    )
    show_line(
        f"{found.uses:,} uses by users in {found.user_days:,} user days: {found.alerts} alerts, {found.step_ups} step-ups or refusals, "
        f"{found.revoked} sessions revoked; {_per_thousand(found.alerts + found.step_ups + found.revoked, found.user_days)} "
        "false verdicts in 1,000 user days"
    )


def _share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.0f} %"


def _per_thousand(part: int, whole: int) -> str:
    return f"{1000 * part / whole:.1f}"
