"""`token-service risk replay` and `rates`."""

from __future__ import annotations

import click

from token_service.cli.risk.rates_command import rates
from token_service.cli.risk.replay_command import replay


@click.group("risk")
def command() -> None:
    """Replay recorded uses of sessions through rules, and measure rules. Nothing is changed. docs/risk.md explains them.

    \b
    Examples:
      token-service risk replay --rules changed.toml --from 24h
      token-service risk rates
      token-service risk rates --rules changed.toml --users 1000 -o json
    """


command.add_command(replay)
command.add_command(rates)
