"""An operator at a shell: `token-service keys …` with the settings of a service."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import subprocess
import sys
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
    """Runs commands in this process, which is fast, or with `shell` as an operator does."""

    def __init__(self, env: Mapping[str, str], *, shell: bool = False) -> None:
        self.env = dict(env)
        self._shell = shell

    async def says(self, *args: str, stdin: str | None = None, **env: str) -> Said:
        """Run `token-service keys` with these arguments; however it ends. `env`: settings, without their prefix."""
        settings = {**self.env, **{f"TOKEN_SERVICE_{name}": value for name, value in env.items()}}
        command = _in_a_shell if self._shell else _here
        # In a thread: the command runs an event loop of its own.
        return await asyncio.to_thread(command, ["keys", *args], settings, stdin)

    async def migrate(self) -> None:
        """`token-service migrate`."""
        said = await asyncio.to_thread(_here, ["migrate"], self.env, None)
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


def _in_a_shell(args: list[str], settings: Mapping[str, str], stdin: str | None) -> Said:
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    done = subprocess.run(
        [sys.executable, "-m", "token_service", *args],
        env={**inherited, **settings},
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return Said(done.returncode, done.stdout, done.stderr)


def _here(args: list[str], settings: Mapping[str, str], stdin: str | None) -> Said:
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
