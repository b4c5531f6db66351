"""An operator at a shell: `token-service keys …` or `log …` with the settings of a service."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from click.testing import CliRunner

from token_service.cli import cli


@dataclass(frozen=True)
class Said:
    """The output and the exit code of a command."""

    code: int
    out: str
    err: str


class Operator:
    """Runs commands in this process, which is much faster than in a shell."""

    def __init__(self, env: Mapping[str, str], *, group: str = "keys") -> None:
        self.env = dict(env)
        self._group = group

    async def says(self, *args: str, stdin: str | None = None, **env: str) -> Said:
        """Run `token-service keys`, or another group of commands, with these arguments.

        Return the result for any exit code. `env`: settings without their prefix.
        """
        settings = {**self.env, **{f"TOKEN_SERVICE_{name}": value for name, value in env.items()}}
        # In a thread, because the command runs its own event loop.
        return await asyncio.to_thread(_run, [self._group, *args], settings, stdin)

    async def migrate(self) -> None:
        """Run `token-service migrate`."""
        said = await asyncio.to_thread(_run, ["migrate"], self.env, None)
        assert said.code == 0, said

    async def run(self, *args: str, stdin: str | None = None, **env: str) -> str:
        """Run a command that must succeed and return its output."""
        said = await self.says(*args, stdin=stdin, **env)
        assert said.code == 0, said
        return said.out.strip()

    async def refused(self, *args: str, stdin: str | None = None, code: int = 1, **env: str) -> str:
        """Run a command that must fail with an exit code, and return its error."""
        said = await self.says(*args, stdin=stdin, **env)
        assert said.code == code, said
        error = said.err[said.err.index("Error: ") :]
        assert error.count("\n") == 1, error
        assert not said.out
        return error.strip()

    async def keys(self, state: str = "") -> list[dict[str, Any]]:
        """Return the keys, newest first."""
        found: list[dict[str, Any]] = json.loads(await self.run("list", "--format", "json"))
        return [key for key in found if state in {"", key["state"]}]

    async def only(self, state: str) -> str:
        """Return the id of the only key in a state."""
        (key,) = await self.keys(state)
        return str(key["key_id"])


def _run(args: list[str], settings: Mapping[str, str], stdin: str | None) -> Said:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    unset = {name: None for name in os.environ if name.startswith("TOKEN_SERVICE_")}
    try:
        result = CliRunner().invoke(
            cli, args, env={**unset, **settings}, input=stdin, prog_name="token-service"
        )
    finally:
        root.handlers[:] = handlers
        root.setLevel(level)
        logging.raiseExceptions = raises
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return Said(result.exit_code, result.stdout, result.stderr)
