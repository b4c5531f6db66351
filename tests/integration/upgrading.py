"""Two nodes of the last release on its recorded database, and what uses them while they are replaced.

A call is made by a client that knows both nodes and follows the service configuration of docs/upgrading.md. It has failed
if it ends with an error after the retries of that configuration. The load raises the error of such a call.
"""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import grpc

from tests.faults import validators
from tests.faults.staleness import Watchers
from tests.faults.validators import Plan, clock
from tests.integration.calls import ACCESS, STRONG, Api, Follower, sequence
from tests.integration.nodes import Node, key_encryption_key
from tests.releases.record import ISSUER
from tests.releases.sql import load_postgres
from tests.support.deadline import eventually
from tests.support.libfaketime import MovableClock, find_libfaketime

ROOT: Final = Path(__file__).resolve().parents[2]
WHEEL: Final = max((ROOT / "tests" / "releases").glob("*/*.whl"))
AUDIENCE: Final = "https://api.example"
BOUND: Final = 5.0
"""S of the validators, in seconds."""
_PAUSE: Final = 0.05
"""Seconds between the rounds of a task. Without it the load takes the processors from the nodes that start."""


_KILLED: Final = """
import asyncio, os, signal, sys
from token_service.stores.sql import migrations
from token_service.urls import DatabaseUrl

def progress(done, total):
    if done == int(sys.argv[2]):
        os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(migrations.migrate(DatabaseUrl.parse(sys.argv[1]), progress))
"""


def documented_service_config() -> str:
    """Return the service configuration of docs/upgrading.md."""
    page = (ROOT / "docs" / "upgrading.md").read_text()
    found = re.search(r"```json\n(.*?)```", page, re.DOTALL)
    assert found is not None
    return json.dumps(json.loads(found[1]))


@dataclass(frozen=True)
class Version:
    """How a version is run."""

    command: Sequence[str]
    env: Mapping[str, str]


class ReplaceableNode(Node):
    """A node that can be started again with another version, at the same addresses."""

    def use(self, version: Version) -> None:
        """Start `version` the next time."""
        assert not self.running
        self._command = [*version.command, "serve"]
        self._settings = dict(version.env)


class Site:
    """The database of the last release, two nodes on it, and both versions of the code."""

    def __init__(self, directory: Path, database_url: str, redis_url: str, *, workers: int = 1) -> None:
        release = WHEEL.parent
        record = json.loads((release / "record.json").read_text())["postgresql"]
        self.record: dict[str, Any] = record
        self.database_url = database_url
        self._directory = directory
        self._clock = MovableClock(find_libfaketime(), directory / "clock")
        self._clock.move(record["record_time"] + 60 - round(time.time()))
        key = directory / "key-encryption.key"
        shutil.copy(release / "test-key-encryption.key", key)
        key.chmod(0o600)
        code = directory / "release"
        with zipfile.ZipFile(WHEEL) as wheel:
            wheel.extractall(code)
        # `sys.path[0]` of a script is its directory: the package beside it wins over the installed one.
        launcher = code / "run_release.py"
        launcher.write_text("from token_service.__main__ import main\nmain()\n")
        self._old_validators = code / "run_validators.py"
        shutil.copy(validators.__file__, self._old_validators)
        env = {
            "TOKEN_SERVICE_DATABASE_URL": database_url,
            "TOKEN_SERVICE_REDIS_URL": redis_url,
            "TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE": str(key),
            "TOKEN_SERVICE_ISSUER": ISSUER,
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_WORKERS": str(workers),
            **self._clock.environment,
        }
        self.old = Version((sys.executable, str(launcher)), env)
        self.new = Version(
            # As `token_service`, and a worker can sleep with a moved clock.
            (sys.executable, "-m", "tests.faults.campaign.node"),
            {**env, "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key()},
        )
        self.nodes = [ReplaceableNode(env=env) for _ in range(2)]

    async def __aenter__(self) -> Self:
        await asyncio.to_thread(load_postgres, self.database_url, WHEEL.with_name("postgresql.sql"))
        try:
            await asyncio.gather(*(self.start(node, self.old) for node in self.nodes))
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for node in self.nodes:
            await asyncio.to_thread(node.close)

    async def start(self, node: ReplaceableNode, version: Version) -> None:
        """Start a version, and return when it is ready."""
        node.use(version)
        await asyncio.to_thread(node.start)

    async def replace(self, node: ReplaceableNode, version: Version) -> None:
        """End a node with SIGTERM, and start a version at its addresses."""
        assert await asyncio.to_thread(node.terminate) == 0
        await self.start(node, version)

    async def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command of this version on the database."""
        return await self._run([*self.new.command, *command])

    async def _run(self, command: Sequence[str]) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(
            subprocess.run,
            command,
            env={
                **_without_settings(),
                **self.new.env,
                "TOKEN_SERVICE_DATA_DIR": str(self._directory / "data"),
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    async def migrate(self) -> None:
        """Migrate the database to the schema of this version."""
        done = await self.run("migrate")
        assert done.returncode == 0, done.stderr

    async def kill_migration(self, done: int) -> None:
        """Begin to migrate the database, and kill the process after this number of migrations."""
        killed = await self._run([sys.executable, "-c", _KILLED, self.database_url, str(done)])
        assert killed.returncode == -signal.SIGKILL, killed.stderr

    @property
    def target(self) -> str:
        """The gRPC target that names both nodes."""
        return "ipv4:" + ",".join(node.grpc_address for node in self.nodes)

    def validators(self, kind: str, *, old: bool) -> Watchers:
        """Return a validator of this version or of the old one, in its own process."""
        plan = Plan(ISSUER, [self.target], 1, kind, BOUND, audience=AUDIENCE)
        env = {**_without_settings(), **self._clock.environment}
        return Watchers(plan, script=self._old_validators if old else None, env=env)


def _without_settings() -> dict[str, str]:
    import os

    return {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}


class Trail:
    """A subscriber that follows one node through its restarts, and confirms. It raises if an entry is missing."""

    def __init__(self, api: Api, name: str, cursor: str) -> None:
        self.cursor = cursor
        self.sequences: list[int] = []
        self._api, self._name = api, name
        self._task = asyncio.create_task(self._follow())

    async def _follow(self) -> None:
        while True:
            async with Follower(self._api, self.cursor, self._name, confirm=self._api) as stream:
                try:
                    await eventually(lambda: stream.end is not None, timeout=600)
                finally:
                    assert stream.resets == 0, "the subscriber had to start over"
                    last = self.sequences[-1] if self.sequences else sequence(self.cursor)
                    self.sequences += [each for each in stream.sequences if each > last]
                    self.cursor = stream.cursor
            await asyncio.sleep(0.05)

    async def stop(self) -> None:
        """End the stream."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task


class Load:
    """Calls that run until they are stopped. Each must succeed."""

    def __init__(self, site: Site) -> None:
        self.rounds = 0
        self.acknowledged: dict[int, float] = {}
        """By revoked token: the time at which the answer to its revocation arrived."""
        self.revoked: dict[int, str] = {}
        """The revoked tokens."""
        self.chains: dict[int, str] = {}
        """The newest refresh token of each chain."""
        self.site = site
        self._numbers = count(1)
        self._stopping = False
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        enter = self._stack.enter_async_context
        options = [("grpc.service_config", documented_service_config())]
        self.api = await enter(Api(self.site.target, options=options))
        self.direct = [await enter(Api(node.grpc_address)) for node in self.site.nodes]
        self.watchers = [
            await enter(self.site.validators("async", old=True)),
            await enter(self.site.validators("sync", old=False)),
        ]
        self.trails = [
            Trail(api, f"trail-{number}", self.site.record["head"]) for number, api in enumerate(self.direct)
        ]
        for trail in self.trails:
            self._stack.push_async_callback(trail.stop)
        for call in (self._keep_a_session, self._continue_a_chain, self._continue_a_chain, self._revoke):
            self._begin(call)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    def _begin(self, call: Callable[[int], Awaitable[None]]) -> None:
        task = len(self._tasks)

        async def repeat() -> None:
            while not self._stopping:
                await call(task)
                self.rounds += 1
                await asyncio.sleep(_PAUSE)

        self._tasks.append(asyncio.create_task(repeat()))

    async def go_on(self, rounds: int = 30, revoked: int = 3) -> None:
        """Wait for further rounds, and for further tokens that all validators have accepted and then refused."""
        wanted, tokens = self.rounds + rounds, len(self.revoked) + revoked

        def reached() -> bool:
            for task in self._tasks:
                if task.done():
                    task.result()  # raises why the load ended
            return self.rounds >= wanted and len(self.revoked) >= tokens

        await eventually(reached)

    async def stop(self) -> None:
        """Finish the running calls. Raises the error of one that failed."""
        self._stopping = True
        await asyncio.gather(*self._tasks)

    async def issue(self, subject: str, **fields: Any) -> Any:
        """Issue tokens. A retry finds the session of the first attempt."""
        name = f"{subject}-{next(self._numbers)}"
        return await self.api.issue(subject, audience=[AUDIENCE], request_id=name, **fields)

    async def _keep_a_session(self, task: int) -> None:
        issued = await self.issue("user")
        first = await self.api.refresh(issued.refresh_token)
        second = await self.api.refresh(first.refresh_token)
        assert await self.api.why(second.access_token, consistency=STRONG) == ""

    async def _continue_a_chain(self, task: int) -> None:
        token = self.chains.get(task) or (await self.issue("chain")).refresh_token
        refreshed = await self.api.refresh(token)
        self.chains[task] = refreshed.refresh_token
        assert await self.api.why(refreshed.access_token) == ""

    async def _revoke(self, task: int) -> None:
        """Revoke a session, a subject and a token that every validator has accepted, until all refuse them."""
        found = {}
        for kind in ("session", "subject", "token"):
            number = next(self._numbers)
            subject = f"revoked-{number}"
            issued = await self.issue(subject, **({"token_types": [ACCESS]} if kind == "token" else {}))
            target = {"session_id": issued.session_id, "subject": subject, "token": issued.access_token}
            by = "session_id" if kind == "session" else kind
            found[number] = issued.access_token, {by: target[by]}
        await self.judged("accepted", {number: token for number, (token, _) in found.items()})
        for number, (token, target) in found.items():
            await self.api.revoke(**target)
            self.acknowledged[number] = clock()
            await self.refused_by_every_node(token)
        tokens = {number: token for number, (token, _) in found.items()}
        await self.judged("refused", tokens)
        self.revoked |= tokens

    async def judged(self, verdict: str, tokens: Mapping[int, str]) -> None:
        """Hand tokens to every validator, and wait until each has accepted, or refused, all of them."""
        for watcher in self.watchers:
            for number, token in tokens.items():
                watcher.tell(f"hold {number} {token}")

        async def all_judged() -> bool:
            reports = [await watcher.report() for watcher in self.watchers]
            return all(str(number) in report[verdict] for report in reports for number in tokens)

        await eventually(all_judged, interval=0.1)

    async def refused_by_every_node(self, token: str) -> None:
        """Ask each node at once. One that is being replaced is asked as soon as it answers again."""

        async def refused(api: Api) -> bool:
            try:
                why = await api.why(token, consistency=STRONG)
            except grpc.aio.AioRpcError as error:
                if error.code() in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                    return False
                raise
            if why != "REVOKED":
                raise RuntimeError(
                    f"a node answers {why or 'active'!r} after the revocation was acknowledged"
                )
            return True

        for api in self.direct:
            await eventually(lambda: refused(api))  # noqa: B023 - awaited here
