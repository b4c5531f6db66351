"""An upgrade under load: nodes of the last release and of this version side by side on one database."""

from __future__ import annotations

import asyncio
import sys
import zipfile
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.calls import ACCESS, STRONG, Api, Follower, refused
from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually
from token_service.v1 import client_service_pb2, client_service_pb2_grpc

RELEASES = Path(__file__).resolve().parents[1] / "releases"
WHEEL = max(RELEASES.glob("*/*.whl"))


@pytest.fixture(scope="module")
def code_of_release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with the package of the last release."""
    directory = tmp_path_factory.mktemp("release")
    with zipfile.ZipFile(WHEEL) as wheel:
        wheel.extractall(directory)
    return directory


@pytest.fixture
def env(postgres_url: str, tmp_path: Path) -> dict[str, str]:
    return {
        "TOKEN_SERVICE_DATABASE_URL": postgres_url,
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        "TOKEN_SERVICE_ISSUER": "https://tokens.example.org",
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }


@pytest.fixture
def old(code_of_release: Path, env: dict[str, str]) -> Iterator[Node]:
    # `sys.path[0]` of a script is its directory: the package beside it wins over the installed one.
    launcher = code_of_release / "run_release.py"
    launcher.write_text("from token_service.__main__ import main\nmain()\n")
    with Node(env=env, command=(sys.executable, str(launcher), "serve")) as node:
        yield node


class Load:
    """Calls that run until they are stopped. Each must succeed."""

    def __init__(self) -> None:
        self.rounds = 0
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []

    def begin(self, call: Callable[[int], Awaitable[None]]) -> None:
        """Repeat a call, which is given the number of its round."""

        async def repeat() -> None:
            number = 0
            while not self._stopping:
                await call(number)
                number += 1
                self.rounds += 1

        self._tasks.append(asyncio.create_task(repeat()))

    async def go_on(self, rounds: int = 30) -> None:
        """Wait for further rounds."""
        wanted = self.rounds + rounds

        def reached() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()  # raises why the load ended
            return self.rounds >= wanted

        await eventually(reached)

    async def stop(self) -> None:
        """Finish the running calls. Raises the error of one that failed."""
        self._stopping = True
        await asyncio.gather(*self._tasks)


async def keep_a_session(api: Api, number: int) -> None:
    """Issue, refresh twice, validate, and revoke every third session."""
    subject = f"subject-{number}"
    issued = await api.issue(subject)
    first = await api.refresh(issued.refresh_token)
    second = await api.refresh(first.refresh_token)
    assert await api.why(second.access_token) == ""
    if number % 3 == 0:
        await api.revoke(session_id=issued.session_id)
        assert await api.why(second.access_token, consistency=STRONG) == "REVOKED"


async def test_old_and_new_nodes_serve_one_database_under_load(old: Node, env: dict[str, str]) -> None:
    load = Load()
    async with Api(old.grpc_address) as before:
        clients: Any = client_service_pb2_grpc.ClientServiceStub(before.channel)
        failure = await refused(clients.ListClients(client_service_pb2.ListClientsRequest()))
        assert failure.code.name == "UNIMPLEMENTED"  # it is the release
        load.begin(lambda number: keep_a_session(before, number))
        await load.go_on()
        kept = await before.issue("kept")
        doomed = await before.issue("doomed")
        async with Follower(before, subscriber_id="old-follower") as follows_old:
            await eventually(lambda: follows_old.caught_up)
            # The first new node migrates the schema while the old one works on it.
            new_env = {**env, "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key()}
            new = Node(env=new_env)
            await asyncio.to_thread(new.start)
            try:
                async with Api(new.grpc_address) as after:
                    load.begin(lambda number: keep_a_session(after, number))
                    await load.go_on()
                    await check_side_by_side(before, after, follows_old)
                    kept_at_new = await after.refresh(kept.refresh_token)
                    kept_at_old = await before.refresh(kept_at_new.refresh_token)
                    await load.go_on()
                    await before.revoke(subject="doomed")
                    assert await after.why(doomed.access_token, consistency=STRONG) == "REVOKED"
                    await load.stop()
                    await asyncio.to_thread(old.terminate)
                    # The new node alone has everything.
                    assert await after.why(kept_at_old.access_token, consistency=STRONG) == ""
                    await after.refresh(kept_at_old.refresh_token)
                    assert await after.why(doomed.access_token) == "REVOKED"
            finally:
                await asyncio.to_thread(new.close)


async def check_side_by_side(before: Api, after: Api, follows_old: Follower) -> None:
    """Check that each node knows what the other one did, and that streams of both have every revocation."""
    for one, other in ((before, after), (after, before)):
        issued = await one.issue("shared")
        assert await other.why(issued.access_token) == ""
        refreshed = await other.refresh(issued.refresh_token)
        await one.revoke(session_id=issued.session_id)
        assert await other.why(refreshed.access_token, consistency=STRONG) == "REVOKED"
        short = await one.issue("short", token_types=[ACCESS])
        revoked = await other.revoke(token=short.access_token)
        await follows_old.caught_up_to(revoked.cursor)
        async with Follower(after, subscriber_id="new-follower") as follows_new:
            await follows_new.caught_up_to(revoked.cursor)
