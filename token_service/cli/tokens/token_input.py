"""The token that a command is about: from standard input, a file or, visible to other users, an argument."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from token_service.files import read_regular

_MAX_BYTES: Final = 64 * 1024


def token_input(*, required: bool = True) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Add the argument TOKEN and the option --token-file to a command, and call it with `token`.

    Without both, a required token comes from standard input. An optional one is empty then.
    """

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def read(token: str | None, token_file: Path | None, **arguments: Any) -> None:
            if token is not None and token_file is not None:
                raise click.UsageError("give TOKEN or --token-file, not both")
            if token is None and token_file is None:
                token = "-" if required else ""
            if token_file is not None:
                token = _of_file(token_file)
            elif token == "-":
                token = _of_stdin()
            function(token=token, **arguments)

        option = click.option(
            "--token-file",
            type=click.Path(path_type=Path),
            default=None,
            metavar="FILE",
            help="The file that contains the token. `-` as TOKEN reads standard input. Avoid a token as TOKEN: the other users "
            "of this machine can see it, and the shell stores it.",
        )
        return click.argument("token", required=False)(option(read))

    return decorate


def _of_stdin() -> str:
    if sys.stdin.isatty():
        click.echo("Enter the token; it is not shown:", err=True)
        import getpass

        return _one(getpass.getpass(""), "standard input")
    return _one(sys.stdin.read(_MAX_BYTES + 1), "standard input")


def _of_file(path: Path) -> str:
    try:
        return _one(read_regular(path, _MAX_BYTES).decode(), str(path))
    except OSError as error:
        raise click.UsageError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise click.UsageError(f"{path} contains no token") from None


def _one(text: str, place: str) -> str:
    token = text.strip()
    if not token or len(token.split()) != 1 or len(token) > _MAX_BYTES:
        raise click.UsageError(f"{place} contains no token, or more than one")
    return token
