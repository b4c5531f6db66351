"""`token-service tokens`: issue, validate, decode, refresh and revoke tokens, over gRPC."""

from __future__ import annotations

import click

from token_service.cli.tokens import decode, issue, refresh, revoke, validate


@click.group("tokens")
def command() -> None:
    """Issue, validate, decode, refresh and revoke tokens.

    These commands call a running service: name it with --target or --connection. `decode` needs none. A token comes
    from standard input or a file, because other users of this machine can see arguments. docs/cli.md describes
    connections and exit codes.

    \b
    Examples:
      token-service tokens issue --target 127.0.0.1:50051 --subject alice --client-id web
      token-service tokens validate --connection production < token
      token-service tokens revoke --connection production --subject alice --dry-run
    """


for each in (issue.command, validate.command, decode.command, refresh.command, revoke.command):
    command.add_command(each)
