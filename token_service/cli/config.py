"""`token-service config`."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import click

from token_service.cli.help_sections import ListingCommand
from token_service.cli.output import (
    output_option,
    show_json,
    show_message,
    show_table,
    timestamp_text,
    visible,
)
from token_service.cli.remote.place import place_options
from token_service.config import SETTINGS, Settings
from token_service.config.effective import shown_value

if TYPE_CHECKING:
    from token_service.cli.remote.service import Service


@click.command("config", cls=ListingCommand)
@place_options
@output_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "markdown"]),
    default="text",
    help="`text` shows the values in effect, `markdown` the table of the documentation.",
)
def command(place: Service | Settings, output: str, format_: str) -> None:
    """Show all settings and their sources, without secrets.

    With --target or --connection: the settings in effect at the node that answers, and values that wait for a restart.
    The caller needs `admin.read`.

    Otherwise fails if `serve` would fail: for a wrong setting, an unusable policy or TLS file, an address that does not
    belong to this machine, or an HSM that refuses the login. Connects neither to the database nor to Redis.

    \b
    Examples:
      token-service config
      TOKEN_SERVICE_WORKERS=4 token-service config
      token-service config --config service.toml
      token-service config --connection production -o json
      token-service config --format markdown
    """
    if not isinstance(place, Settings):
        _show_running(place, output)
        return
    if format_ == "markdown":
        click.echo("\n".join(_markdown()))
        return
    from token_service.app.check import check

    asyncio.run(check(place))
    if output == "json":
        show_json(
            [
                {"name": each.variable, "value": shown_value(each, place), "source": place.sources[each.name]}
                for each in SETTINGS
            ]
        )
        return
    click.echo("\n".join(_text(place)))


def _show_running(service: Service, output: str) -> None:
    from token_service.v1.admin_service_pb2 import GetEffectiveConfigurationRequest

    found = service.call(service.admin.GetEffectiveConfiguration, GetEffectiveConfigurationRequest())
    if output == "json":
        show_message(found, output, lambda _: ())
        return
    show_table(
        ("SETTING", "VALUE", "SOURCE", "RELOADABLE", "NEEDS A RESTART"),
        [
            (each.name, each.value, each.source, "yes" if each.reloadable else "no", each.pending_value)
            for each in found.settings
        ],
    )
    click.echo(f"node         {visible(found.node_id)}")
    click.echo(f"last reload  {timestamp_text(found, 'reload_time')}")
    if found.reload_problem:
        click.echo(f"problem      {visible(found.reload_problem)}")


def _text(settings: Settings) -> list[str]:
    rows = [
        (setting.variable, shown_value(setting, settings), settings.sources[setting.name])
        for setting in SETTINGS
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}" for name, value, source in rows]


def _markdown() -> list[str]:
    lines = [
        "| variable | flag | default | what it does | allowed |",
        "| --- | --- | --- | --- | --- |",
    ]
    for setting in SETTINGS:
        flag = "" if setting.secret else f"`{setting.flag}`"
        default = f"`{setting.default}`" if setting.default is not None else setting.default_help
        cells = (f"`{setting.variable}`", flag, default, setting.help, setting.allowed)
        lines.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return lines
