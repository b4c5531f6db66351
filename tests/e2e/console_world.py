"""A node with an open console, filled like a service in use: clients, sessions, revocations and validators.

python -m tests.e2e.console_world      # keeps the node until Ctrl-C, and prints the URL of its console
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from types import TracebackType
from typing import Any, Self

from tests.integration.calls import ACCESS, REFRESH, TIMEOUT, Api, Follower
from tests.integration.oauth.node import OAuthNode, register
from tests.support.chromium import Page
from token_service.v1 import session_service_pb2, token_service_pb2 as pb

HOSTILE = "<script>alert('name')</script>"
"""A name that would be a script if a page did not escape it."""
VALIDATORS = ("orders", "billing", "gateway-eu-1", "gateway-eu-2", "search", "reports", HOSTILE)
CLIENTS = ("web", "mobile-ios", "mobile-android", "partner-portal", "batch", "intranet")
SUBJECTS = ("alice", "bob", "carol", "dave", "erin", "frank", HOSTILE)
LAGGARD = "legacy-batch"
"""A validator that follows the stream and confirms nothing after its start."""
AUDIENCE = "https://api.example"
STREAMS = 50
"""Streams on one connection; a node limits their number."""
WIDTHS = {"wide": 1400, "narrow": 360}
LOOKS = {
    f"{name}-{scheme}": {"viewport": {"width": width, "height": 900}, "colorScheme": scheme}
    for name, width in WIDTHS.items()
    for scheme in ("light", "dark")
}
"""Options of `Chromium.page`: each width with light and with dark colors."""


class ConsoleWorld:
    """The node, its clients and its connections. They live as long as the context."""

    def __init__(self, *, sessions: int = 40, revoked: int = 8, laggard: bool = True, **env: str) -> None:
        self.node = OAuthNode(env=env)
        self.sessions: list[str] = []
        """The ids of the sessions, the live ones first."""
        self._counts = (sessions, revoked)
        self._validators = (*VALIDATORS, LAGGARD) if laggard else VALIDATORS
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._followers: list[Follower] = []
        self._connections: list[Api] = []

    @property
    def url(self) -> str:
        """The URL of the console."""
        return f"{self.node.http_url}/console"

    def open(self, page: Page, path: str = "") -> Any:
        """Open a page of the console, such as `sessions?subject=alice`."""
        return page.goto(f"{self.url}/{path}" if path else self.url)

    def run(self, call: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine beside the connections of the world, and return its result."""
        return asyncio.run_coroutine_threadsafe(call, self._loop).result(TIMEOUT * 2)

    def revoke(self, **target: Any) -> pb.RevokeTokenResponse:
        """Revoke something, such as `subject="alice"` or `session_id=…`, as a caller of gRPC."""
        answer: pb.RevokeTokenResponse = self.run(self.api.revoke(**target))
        return answer

    def state(self, session_id: str) -> Any:
        """Return the state of a session."""
        request = session_service_pb2.GetSessionRequest(session_id=session_id)

        async def get() -> Any:
            return (await self.api.sessions.GetSession(request, timeout=TIMEOUT)).session.state

        return self.run(get())

    def issue(self, count: int, subject: str) -> list[str]:
        """Start sessions of a subject, and return their ids."""

        async def start() -> list[str]:
            answers = []
            for first in range(0, count, 50):
                calls = [
                    self.api.issue(
                        subject,
                        client_id=CLIENTS[0],
                        audience=[AUDIENCE],
                        scopes=["read"],
                        token_types=[ACCESS, REFRESH],
                    )
                    for _ in range(first, min(first + 50, count))
                ]
                answers += await asyncio.gather(*calls)
            return [answer.session_id for answer in answers]

        issued: list[str] = self.run(start())
        return issued

    def follow(self, names: Sequence[str]) -> None:
        """Connect validators that confirm every revocation."""

        async def connect() -> None:
            for number, name in enumerate(names):
                if number % STREAMS == 0:
                    self._connections.append(Api(self.node.grpc_address))
                follower = Follower(self._connections[-1], subscriber_id=name, confirm=self.api)
                self._followers.append(await follower.__aenter__())

        self.run(connect())

    def __enter__(self) -> Self:
        self.node.__enter__()
        try:
            self._thread.start()
            self.run(self._fill())
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._thread.is_alive():
            self.run(self._close())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
        self._loop.close()
        self.node.__exit__(kind, error, trace)

    async def _fill(self) -> None:
        self.api = api = Api(self.node.grpc_address)
        for client_id in CLIENTS:
            await register(api, client_id, client_name=client_id.replace("-", " ").title())
        await register(api, "hostile", client_name=HOSTILE)
        for name in self._validators:
            follower = Follower(api, subscriber_id=name, confirm=None if name == LAGGARD else api)
            await follower.__aenter__()
            self._followers.append(follower)
        sessions, revoked = self._counts
        for number in range(sessions + revoked):
            answer = await api.issue(
                SUBJECTS[number % len(SUBJECTS)],
                client_id=CLIENTS[number % len(CLIENTS)],
                audience=[AUDIENCE],
                scopes=["read"],
                token_types=[ACCESS, REFRESH],
            )
            self.sessions.append(answer.session_id)
        head = ""
        for session_id in self.sessions[sessions:]:
            head = (await api.revoke(session_id=session_id, comment="left the company")).cursor
        for number, (name, follower) in enumerate(zip(VALIDATORS, self._followers, strict=False), 1):
            await follower.caught_up_to(head)
            await api.tokens.ConfirmRevocations(
                pb.ConfirmRevocationsRequest(
                    subscriber_id=name,
                    applied_cursor=head,
                    client_version="python/0.1.0",
                    validated=1000 * number,
                    refusals=[pb.ConfirmRevocationsRequest.Refusals(reason="EXPIRED", count=number)],
                ),
                timeout=TIMEOUT,
            )

    async def _close(self) -> None:
        for follower in self._followers:
            await follower.cut()
        for api in (*self._connections, self.api):
            await api.channel.close()


if __name__ == "__main__":
    with ConsoleWorld() as world:
        print(world.url, flush=True)
        threading.Event().wait()
