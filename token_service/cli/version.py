"""`token-service version`."""

from __future__ import annotations

import click

from token_service import __version__


@click.command("version")
def command() -> None:
    """Show the version.

    \b
    Example:
      token-service version
    """
    click.echo(__version__)
