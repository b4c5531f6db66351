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
    """What a command wrote, and how it ended."""

    code: int
    out: str
    err: str


class Operator:
    """Runs commands in this process, which is much faster than a shell."""

    def __init__(self, env: Mapping[str, str], *, group: str = "keys") -> None:
        self.env = dict(env)
        self._group = group

    async def says(self, *args: str, stdin: str | None = None, **env: str) -> Said:
        """Run `token-service keys`, or another group of commands, with these arguments; however it ends.

        `env`: settings, without their prefix.
        """
        settings = {**self.env, **{f"TOKEN_SERVICE_{name}": value for name, value in env.items()}}
        # In a thread: the command runs an event loop of its own.
        return await asyncio.to_thread(_run, [self._group, *args], settings, stdin)

    async def migrate(self) -> None:
        """`token-service migrate`."""
        said = await asyncio.to_thread(_run, ["migrate"], self.env, None)
        assert said.code == 0, said

    async def run(self, *args: str, stdin: str | None = None, **env: str) -> str:
        """What a command that must succeed prints."""
        said = await self.says(*args, stdin=stdin, **env)
        assert said.code == 0, said
        return said.out.strip()

    async def refused(self, *args: str, stdin: str | None = None, **env: str) -> str:
        """What a command that must fail says."""
        said = await self.says(*args, stdin=stdin, **env)
        assert said.code == 1, said
        error = said.err[said.err.index("Error: ") :]
        assert error.count("\n") == 1, error
        assert not said.out
        return error.strip()

    async def keys(self, state: str = "") -> list[dict[str, Any]]:
        """The keys, newest first."""
        found: list[dict[str, Any]] = json.loads(await self.run("list", "--format", "json"))
        return [key for key in found if state in {"", key["state"]}]

    async def only(self, state: str) -> str:
        """The id of the one key in a state."""
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
