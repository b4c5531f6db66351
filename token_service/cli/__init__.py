"""The command line. A command's module is imported when the command is called, so that help is fast.

A new command is a module of this package with a function `command`, and a row in `_COMMANDS`.

Exit codes: 0 for success, 1 for a failure, 2 for a wrong command line or configuration.
"""

from __future__ import annotations

from importlib import import_module
from typing import Final

import click

from token_service import __version__
from token_service.errors import ConfigurationError, TokenServiceError

_COMMANDS: Final = {
    "serve": "Run the service.",
    "migrate": "Migrate the database to the current schema.",
    "config": "Show all settings and their sources.",
    "access": "Explain the rights of callers.",
    "keys": "Administer the signing keys.",
    "clients": "Administer the registered clients.",
    "personal-access-tokens": "Administer the personal access tokens.",
    "log": "Administer the revocation log.",
    "audit": "Read, verify and export the audit trail.",
    "explain-revocation": "Show who revoked a target, when and why.",
    "version": "Show the version.",
}
_MODULES: Final = {
    "log": "revocation_log",
    "explain-revocation": "explain_revocation",
    "personal-access-tokens": "personal_access_tokens",
}
"""Modules whose name differs from the command."""


class _WrongConfigurationError(click.ClickException):
    exit_code = 2


class _LazyGroup(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _COMMANDS:
            return None
        command = import_module(f"token_service.cli.{_MODULES.get(cmd_name, cmd_name)}").command
        assert isinstance(command, click.Command)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_COMMANDS.items()))

    def invoke(self, ctx: click.Context) -> object:
        try:
            return super().invoke(ctx)
        except ConfigurationError as error:
            raise _WrongConfigurationError(error.message) from None
        except TokenServiceError as error:
            raise click.ClickException(error.message) from None


@click.command(
    cls=_LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    epilog="Settings come from flags, TOKEN_SERVICE_* variables and a TOML file; see `token-service config`.",
)
@click.version_option(__version__, prog_name="token-service")
def cli() -> None:
    """Issue, validate, refresh and revoke tokens.

    \b
    Examples:
      token-service serve
      token-service serve --grpc-address 127.0.0.1:0 --signing-algorithm ES256
      token-service config
      token-service keys list
    """
