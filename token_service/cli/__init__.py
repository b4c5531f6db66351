"""The command line. A command's module is imported when the command is called, so that help is fast.

A new command is a module of this package with a function `command`, and a row in `_COMMANDS`.

`exit_codes` has the exit codes.
"""

from __future__ import annotations

import io
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Final

import click

from token_service import __version__
from token_service.errors import TokenServiceError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

_COMMANDS: Final = {
    "serve": "Run the service.",
    "gateway": "Answer the authorization checks of proxies.",
    "migrate": "Migrate the database to the current schema.",
    "config": "Show all settings and their sources.",
    "access": "Explain the rights of callers.",
    "overview": "Show the state of the whole service.",
    "nodes": "List the running nodes.",
    "subscribers": "List the connected validators.",
    "policies": "Read, check and change the policies.",
    "tokens": "Issue, validate, decode, refresh and revoke tokens.",
    "sessions": "List, count and revoke sessions.",
    "subjects": "Export or erase what the service holds about a subject.",
    "revocations": "Show the live revocations.",
    "keys": "Administer the signing keys.",
    "clients": "Administer the registered clients.",
    "personal-access-tokens": "Administer the personal access tokens.",
    "log": "Administer the revocation log.",
    "personal-data": "Encrypt the personal data in the database.",
    "risk": "Replay and measure the rules about risk.",
    "webhooks": "Administer the webhooks that events are posted to.",
    "audit": "Read, verify and export the audit trail.",
    "report": "Report what happened in a time range, from the audit trail.",
    "explain-revocation": "Show who revoked a target, when and why.",
    "completion": "Print the completion of commands for a shell.",
    "version": "Show the version.",
}
_MODULES: Final = {
    "report": "reports",
    "log": "revocation_log",
    "explain-revocation": "explain_revocation",
    "personal-access-tokens": "personal_access_tokens",
    "personal-data": "personal_data",
}
"""Modules whose name differs from the command."""


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"token_service.cli.{_MODULES.get(cmd_name, cmd_name)}").command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command. click suggests only commands of groups that are loaded as a whole."""
        if ctx.resilient_parsing or args[0] in _COMMANDS or args[0].startswith("-"):
            return super().resolve_command(ctx, args)
        from token_service.suggestions import did_you_mean

        raise click.UsageError(f"No such command {args[0]!r}{did_you_mean(args[0], _COMMANDS)}", ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Complete the name of a command without importing its module."""
        from click.shell_completion import CompletionItem

        if incomplete.startswith("-"):
            return super().shell_complete(ctx, incomplete)
        return [
            CompletionItem(name, help=text) for name, text in _COMMANDS.items() if name.startswith(incomplete)
        ]

    def invoke(self, ctx: click.Context) -> object:
        for stream in (sys.stdout, sys.stderr):
            if isinstance(stream, io.TextIOWrapper):  # names may have characters that the terminal can't show
                stream.reconfigure(errors="backslashreplace")
        try:
            return super().invoke(ctx)
        except TokenServiceError as error:
            from token_service.cli.exit_codes import CommandFailedError, exit_code

            raise CommandFailedError(error.message, exit_code(error)) from None


@click.command(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Settings come from flags, TOKEN_SERVICE_* variables and a TOML file; see `token-service config`. With --target or "
    "--connection a command calls a running service; see docs/cli.md. Exit codes: 0 ok, 1 failure, 2 command line or "
    "configuration, 3 denied, 4 not found, 5 unavailable, 6 the answer is no.",
)
@click.version_option(__version__, prog_name="token-service")
def cli() -> None:
    """Issue, validate, refresh and revoke tokens.

    \b
    Examples:
      token-service serve
      token-service serve --grpc-address 127.0.0.1:0 --signing-algorithm ES256
      token-service config
      token-service overview --target 127.0.0.1:50051
      token-service tokens issue --target 127.0.0.1:50051 --subject alice --client-id web
      token-service keys list
    """
