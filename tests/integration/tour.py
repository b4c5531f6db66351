"""Pages as programs: a shell runs their commands one after the other, and the output is compared with the page.

`python -m tests.integration.tour` runs the tour against its own server and writes the output into docs/tour.md.
"""

from __future__ import annotations

import json
import os
import queue
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from tests.support.deadline import eventually_sync
from tests.support.preloaded import path_of_commands
from tests.support.processes import ServiceProcess

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
TOUR = DOCS / "tour.md"
GRPC_ADDRESS, HTTP_ADDRESS = "127.0.0.1:50051", "127.0.0.1:8080"
GRACE_PERIOD = "TOKEN_SERVICE_POLICY__INTERNAL__GRACE_PERIOD"
SLOWER = 4
"""The factor by which the grace period and the sleep after it are longer than on the page, because a call may take
seconds on a slow machine.
"""
_FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_CODE = frozenset({"sh", "python"})


@dataclass(frozen=True)
class Step:
    """A block of commands, and the block of output after it, if the page has one."""

    language: str
    code: str
    shown: str | None
    shown_at: tuple[int, int] | None
    """The position of the output on the page."""


def section(text: str, name: str) -> tuple[int, int]:
    """Return the begin and the end of the part of a document between its marks."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    return text.index(begin) + len(begin), text.index(end)


def steps(text: str, name: str = "tour") -> list[Step]:
    """Return the steps in the part of a document between its marks."""
    start, end = section(text, name)
    blocks = list(_FENCE.finditer(text, start, end))
    found: list[Step] = []
    for number, block in enumerate(blocks):
        if block[1] not in _CODE:
            continue
        after = blocks[number + 1] if number + 1 < len(blocks) else None
        is_output = after is not None and after[1] not in _CODE
        found.append(
            Step(
                block[1],
                block[2],
                after[2] if after is not None and is_output else None,
                after.span(2) if after is not None and is_output else None,
            )
        )
    return found


def documents(text: str) -> Iterator[Any]:
    """Yield the JSON documents of a text."""
    decoder = json.JSONDecoder()
    position = 0
    while position < len(text):
        document, position = decoder.raw_decode(text, position)
        yield document
        position += len(text[position:]) - len(text[position:].lstrip())


_SHAPES = (
    ("<JWT>", r"eyJ.*"),
    ("<refresh token>", r"rt_.*"),
    ("<session token>", r"st_.*"),
    ("<uuid>", r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}"),
    ("<time>", r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z"),
    (r"<log>:\1", r"[A-Za-z0-9_-]{8,32}:([0-9]+)"),
)


_VARYING = frozenset({"bucket", "fingerprints", "kid", "n", "tokenId", "value"})


def normalized(value: Any) -> Any:
    """Return a JSON value with a name in place of each value that differs between runs."""
    if isinstance(value, dict):
        return {
            name: f"<{name}>" if name in _VARYING and isinstance(item, str) else normalized(item)
            for name, item in value.items()
        }
    if isinstance(value, list):
        return [normalized(item) for item in value]
    if isinstance(value, str):
        for shape, pattern in _SHAPES:
            if match := re.fullmatch(pattern, value):
                return match.expand(shape)
    return value


def shape(text: str) -> Any:
    """Return the constant part of an output: its normalized JSON documents, or else its lines."""
    try:
        return [normalized(document) for document in documents(text.strip())]
    except ValueError:
        return text.strip().splitlines()


class Tour:
    """A shell in its own directory. It replaces the addresses on the pages by those of a server under test."""

    def __init__(self, node: ServiceProcess | None, replaced: Mapping[str, str] | None = None) -> None:
        """`replaced`: further texts of the page and their replacements. `node`: None for a page that starts its own."""
        self._addresses = dict(replaced or {})
        if node is not None:
            self._addresses |= {GRPC_ADDRESS: node.grpc_address, HTTP_ADDRESS: node.http_address}
        self._lines: queue.Queue[str | None] = queue.Queue()

    def __enter__(self) -> Self:
        self._directory = tempfile.TemporaryDirectory(prefix="token-service-tour-")
        # A reader types the commands in the checkout. Here their files must not be created in the checkout.
        scripts = Path(self._directory.name) / "scripts"
        scripts.mkdir()
        for script in (ROOT / "scripts").iterdir():
            stand_in = scripts / script.name
            stand_in.write_text(f'#!/bin/sh\nexec "{script}" "$@"\n')
            stand_in.chmod(0o755)
        self._shell = subprocess.Popen(
            ["bash"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=self._directory.name,
            start_new_session=True,
            env={
                **os.environ,
                "TOKEN_SERVICE_VENV": sys.prefix,
                "PATH": path_of_commands(),
            },
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.killpg(self._shell.pid, signal.SIGKILL)
        self._shell.wait(30)
        self._reader.join(30)
        for pipe in (self._shell.stdin, self._shell.stdout):
            assert pipe is not None
            pipe.close()
        self._directory.cleanup()

    def run(self, step: Step, timeout: float = 60) -> str:
        """Run a step within `timeout` seconds, and return its output on standard output and standard error."""
        code = re.sub(
            r"^sleep (\d+)$", lambda found: f"sleep {int(found[1]) * SLOWER}", step.code, flags=re.MULTILINE
        )
        for written, real in self._addresses.items():
            code = code.replace(written, real)
        if step.language == "python":
            done = subprocess.run(
                [sys.executable, "-c", code],
                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=timeout, check=False,
                cwd=self._type("pwd").strip(),
            )  # fmt: skip
            output = done.stdout
        else:
            output = self._type(code, timeout)
            if match := re.search(r"> (\S+) &$", code.strip()):
                # A person types slowly enough for a background command to start. This shell must wait for it.
                file = Path(self._type("pwd").strip()) / match[1]
                eventually_sync(lambda: file.exists() and file.stat().st_size)
        for written, real in self._addresses.items():
            output = output.replace(real, written)
        return output

    def run_as_shown(self, step: Step, timeout: float = 60) -> str:
        """Run a step as `run` does. Repeat a step that only reads a file until its output matches, or a timeout."""
        deadline = time.monotonic() + timeout
        while True:
            output = self.run(step)
            is_look = step.code.startswith("cat ")
            if not is_look or step.shown is None or shape(output) == shape(step.shown):
                return output
            if time.monotonic() > deadline:
                return output
            time.sleep(0.1)

    def _type(self, code: str, timeout: float = 60) -> str:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{code}\necho; echo '--- done ---'\n")
        self._shell.stdin.flush()
        lines: list[str] = []
        while (line := self._lines.get(timeout=timeout)) != "--- done ---\n":
            assert line is not None, f"the shell ended: {''.join(lines)}"
            lines.append(line)
        return "".join(lines)

    def _read(self) -> None:
        assert self._shell.stdout is not None
        for line in self._shell.stdout:
            self._lines.put(line)
        self._lines.put(None)


def _shortened(output: str) -> str:
    return re.sub(r'"((?:eyJ|rt_|st_)?[A-Za-z0-9_+/.=-]{44,})"', lambda found: f'"{found[1][:24]}…"', output)


def main() -> None:
    """Write the output of the commands into the tour."""
    from tests.integration.test_tour import tour_server

    text = TOUR.read_text()
    pieces: list[str] = []
    position = 0
    with tour_server() as node, Tour(node) as tour:
        for step in steps(text):
            if step.code.startswith("cat "):
                time.sleep(1)  # without a check: the person who runs this program reads the result
            output = tour.run(step)
            if step.shown_at is not None:
                pieces += [text[position : step.shown_at[0]], _shortened(output).strip(), "\n"]
                position = step.shown_at[1]
    TOUR.write_text("".join([*pieces, text[position:]]))


if __name__ == "__main__":
    main()
