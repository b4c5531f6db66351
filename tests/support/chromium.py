"""A real Chromium: from PATH, or from Debian's archive."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

from tests.support import debian

_PARTS = ("chromium", "chromium-common")


def find_chromium() -> Path:
    """Return the browser. Fetches it if the machine lacks it."""
    found = _look()
    if found is None:
        found, problem = debian.fetch("chromium", "chromium", _PARTS, _look)
        if found is None:
            raise RuntimeError(f"no Chromium: {problem}")
    return found


def _look() -> Path | None:
    found = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    return Path(found) if found is not None else None


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
        find_chromium(), *arguments, url, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        shown, _ = await asyncio.wait_for(process.communicate(), 120)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return shown.decode()
