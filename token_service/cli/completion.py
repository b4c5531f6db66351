"""`token-service completion`."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class


@click.command("completion", short_help="Print the completion of commands for a shell.")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print a script that completes commands and options in a shell. It works in the next shell.

    \b
    Examples:
      token-service completion bash > ~/.local/share/bash-completion/completions/token-service
      token-service completion zsh > "${fpath[1]}/_token-service"
      token-service completion fish > ~/.config/fish/completions/token-service.fish
    """
    kind = get_completion_class(shell)
    assert kind is not None  # one of the choices
    root = click.get_current_context().find_root()
    click.echo(kind(root.command, {}, "token-service", "_TOKEN_SERVICE_COMPLETE").source())
