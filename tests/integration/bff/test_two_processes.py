"""Two processes serve one browser: neither they nor its tabs ever log the user out."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx
import pytest

from tests.support.browser import PUBLIC_URL
from tests.support.deadline import eventually
from tests.support.fake_provider import FakeProvider
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from tests.support.processes import http_status
from tests.support.session_stores import fresh_store

ROUNDS = 5


@contextmanager
def process(provider: FakeProvider, store: str, log: Path) -> Iterator[str]:
    port = free_port()
    command = [
        sys.executable,
        "-m",
        "tests.support.bff_process",
        "--port",
        str(port),
        "--issuer",
        provider.issuer,
    ]
    running = ManagedProcess([*command, "--store", store], log=log)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        running.kill()
        release_port(port)


async def log_in(client: httpx.AsyncClient, url: str) -> dict[str, str]:
    """Log in, and return the Cookie header. The URL is not that of the configuration, as behind a proxy."""
    begun = await client.get(f"{url}/auth/login")
    at_provider = await client.get(begun.headers["Location"])
    callback = at_provider.headers["Location"].removeprefix(PUBLIC_URL)
    login_cookie = begun.headers["Set-Cookie"].partition(";")[0]
    done = await client.get(f"{url}{callback}", headers={"Cookie": login_cookie})
    assert done.status_code == 303, done.text
    return {"Cookie": done.headers.get_list("Set-Cookie")[0].partition(";")[0]}


@pytest.mark.parametrize("store_name", ["sqlite", "postgres", "redis"])
async def test_concurrent_renewals_of_two_processes_are_one(
    store_name: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    store = await fresh_store(store_name, request, tmp_path)
    with ExitStack() as stack:
        provider = stack.enter_context(FakeProvider(f"{PUBLIC_URL}/auth/callback"))
        provider.access_lifetime = 1
        provider.accepts_retries = False  # a second use of a refresh token ends the session
        urls = [stack.enter_context(process(provider, store, tmp_path / f"{n}.log")) for n in range(2)]
        await eventually(lambda: all(http_status(url.removeprefix("http://"), "/") == 200 for url in urls))
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            cookie = await log_in(client, urls[0])
            seen: Counter[tuple[int, str]] = Counter()
            while provider.families[0].refreshes < ROUNDS:
                answers = await asyncio.gather(
                    *(client.get(f"{urls[number % 2]}/orders", headers=cookie) for number in range(20))
                )
                seen.update((answer.status_code, answer.text) for answer in answers)
                assert seen.keys() == {(200, "alice")}
        assert provider.concurrent_refreshes == 1
        assert provider.complaints == []
        assert provider.requests["/token"] == 1 + provider.families[0].refreshes
