"""`token-service config`."""

from __future__ import annotations

import asyncio

import click

from token_service.cli.settings_options import ListingCommand, settings_options
from token_service.config import SETTINGS, Setting, Settings
from token_service.durations import duration_text


@click.command("config", cls=ListingCommand)
@settings_options
@click.option(
    "--format",
    "format_",
    type=click.Choice(["text", "markdown"]),
    default="text",
    help="`text` shows the values in effect, `markdown` the table of the documentation.",
)
def command(settings: Settings, format_: str) -> None:
    """Show all settings and their sources, without secrets.

    Fails if `serve` would fail: for a wrong setting, an unusable policy or TLS file, an address that does not belong to
    this machine, or an HSM that refuses the login. Connects neither to the database nor to Redis.

    \b
    Examples:
      token-service config
      TOKEN_SERVICE_WORKERS=4 token-service config
      token-service config --config service.toml
      token-service config --format markdown
    """
    if format_ == "markdown":
        click.echo("\n".join(_markdown()))
        return
    from token_service.app.check import check

    asyncio.run(check(settings))
    click.echo("\n".join(_text(settings)))


def _text(settings: Settings) -> list[str]:
    rows = [
        (setting.variable, _shown(setting, settings), settings.sources[setting.name]) for setting in SETTINGS
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    return [f"{name:<{widths[0]}}  {value:<{widths[1]}}  {source}" for name, value, source in rows]


def _shown(setting: Setting, settings: Settings) -> str:
    value = getattr(settings, setting.name)
    if value is None or value == ():
        return "-"
    if setting.secret:
        return "***"
    if isinstance(value, bool):
        return str(value).lower()
    return duration_text(value) if isinstance(value, float) else str(value)


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
