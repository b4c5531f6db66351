"""A real Chromium: from PATH, or from Debian's package. It is driven by playwright-core, which downloads no browser."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tests.support import debian, node as nodejs, reaper
from tests.support.lines import read_answer

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

ARTIFACTS = Path(__file__).resolve().parents[2] / "build" / "e2e"
"""The directory of the screenshots. Git ignores it."""
_CACHE = "chromium"
_NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


def find_chromium() -> Path:
    """Return the program, installing it if possible. Raise `RuntimeError` that says what to install."""
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, "chromium", (), _present)
    if found is None:
        raise RuntimeError(
            f"Chromium is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install chromium | dnf install chromium"
        )
    return found


def _present() -> Path | None:
    for name in _NAMES:
        if (found := shutil.which(name)) is not None:
            return Path(found)
    unpacked = debian.cache(_CACHE) / "usr/lib/chromium/chromium"
    return unpacked if unpacked.exists() else None


def _libraries() -> str:
    """Return LD_LIBRARY_PATH for a browser that was unpacked, not installed."""
    return os.pathsep.join(str(path) for path in debian.cache(_CACHE).glob("usr/lib/*-linux-*"))


async def page_after(url: str, profile: Path) -> str:
    """Navigate to `url` and return the document that the browser shows in the end, after redirects and scripts."""
    arguments = [
        "--headless",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--no-proxy-server",
        f"--user-data-dir={profile}",
        "--virtual-time-budget=10000",
        "--dump-dom",
    ]
    if os.geteuid() == 0:
        arguments.append("--no-sandbox")  # Chromium refuses to run as root with one
    process = await asyncio.create_subprocess_exec(
        find_chromium(),
        *arguments,
        url,
        env={**os.environ, "LD_LIBRARY_PATH": _libraries()},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        shown, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return shown.decode()


@dataclass(frozen=True)
class Shown:
    """What a page shows. `status` and `headers` are of the navigation that was asked for, if it was one."""

    url: str
    status: int | None
    headers: Mapping[str, str]
    text: str


class Chromium:
    """One browser process; each page has cookies of its own."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._numbers = itertools.count()

    def page(self, **options: Any) -> Page:
        """Return a new page. `options`: of playwright's `newContext`."""
        return Page(self, next(self._numbers), options)

    def call(self, call: Mapping[str, Any]) -> Any:
        """Send one call to the program and return its result. Raise `AssertionError` if it failed."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(call) + "\n")
        self._process.stdin.flush()
        return self._answer(f"Chromium was asked for {call['call']!r}")

    def _answer(self, what: str) -> Any:
        assert self._process is not None
        assert self._process.stdout is not None
        line = read_answer(self._process.stdout, what)
        assert line, "Chromium did not start, or ended; its messages are in the output of the test"
        answer = json.loads(line)
        assert "error" not in answer, answer["error"]
        return answer["ok"]

    def __enter__(self) -> Self:
        nodejs.install()
        program = str(find_chromium())
        self._process = nodejs.popen(
            "browser.mjs",
            program,
            _libraries(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        reaper.watch(self._process.pid)
        try:
            self._answer("the start of Chromium")
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._process is not None:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.close()
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(30)
            self._process.stdout.close()
            reaper.forget(self._process.pid)


class Page:
    """A page of the browser. See browser.mjs."""

    def __init__(self, browser: Chromium, number: int, options: Mapping[str, Any]) -> None:
        self._browser = browser
        self._number = number
        self._options = dict(options)

    def goto(self, url: str) -> Shown:
        """Navigate, and return the page at the end of all redirections."""
        return Shown(**self._call("goto", url=url))

    def look(self) -> Shown:
        """Return the present page."""
        return Shown(**self._call("look"))

    def fill(self, label: str, value: str) -> None:
        """Fill the input with a label."""
        self._call("fill", label=label, value=value)

    def press(self, button: str, until: str, role: str = "button") -> Shown:
        """Press a button, wait for a URL that matches a regular expression, and return the page there."""
        return Shown(**self._call("press", button=button, until=until, role=role))

    def keyboard(self, key: str) -> None:
        """Press a key."""
        self._call("keyboard", key=key)

    def focused(self) -> Mapping[str, str]:
        """Return tag, name and outline of the element with the focus."""
        found: Mapping[str, str] = self._call("focused")
        return found

    def count(self, selector: str) -> int:
        """Return the number of elements that match a CSS selector."""
        found: int = self._call("count", selector=selector)
        return found

    def screenshot(self, name: str) -> None:
        """Write the whole page to the artifacts."""
        ARTIFACTS.mkdir(parents=True, exist_ok=True)
        self._call("screenshot", path=str(ARTIFACTS / f"{name}.png"))

    def cookies(self) -> list[Mapping[str, Any]]:
        """Return all cookies of the browser's profile."""
        found: list[Mapping[str, Any]] = self._call("cookies")
        return found

    def console(self) -> list[str]:
        """Return the messages of the console since the last call."""
        found: list[str] = self._call("console")
        return found

    def requests(self) -> list[str]:
        """Return the URLs of the requests since the last call."""
        found: list[str] = self._call("requests")
        return found

    def hide(self, *, hidden: bool = True) -> None:
        """Tell the document that its tab is hidden, or shown again."""
        self._call("hide", hidden=hidden)

    def overflow(self) -> int:
        """Return the pixels by which the page is wider than the window."""
        found: int = self._call("overflow")
        return found

    def axe(self) -> list[str]:
        """Return the faults in accessibility that axe-core finds."""
        found: list[str] = self._call("axe")
        return found

    def framed(self, around: str, url: str) -> str:
        """Return the text that the browser shows for `url` in a frame of a page at `around`."""
        found: str = self._call("framed", around=around, url=url)
        return found

    def close(self) -> None:
        """Close the page with its cookies."""
        self._call("close")

    def _call(self, call: str, **fields: Any) -> Any:
        return self._browser.call({"call": call, "page": self._number, "options": self._options, **fields})
