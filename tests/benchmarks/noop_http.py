"""The reference of HTTP endpoints: a starlette app on uvicorn that reads the body and returns a fixed response.

It has the HTTP parser, the event loop and the header fields of the service.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Self


class NoopHttp:
    """The process of the reference server. `address` is where it listens."""

    def __init__(self, path: str, reply: bytes) -> None:
        """`reply`: the body of the response to every POST to `path`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.noop_http", path, reply.hex()],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = f"127.0.0.1:{int(self._process.stdout.readline())}"

    @property
    def pid(self) -> int:
        """Process id of the server."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


async def _serve(path: str, reply: bytes) -> None:
    import socket

    import uvicorn
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    async def answer(request: Request) -> Response:
        await request.body()
        return Response(reply, media_type="application/json", headers={"Cache-Control": "no-store"})

    listener = socket.create_server(("127.0.0.1", 0), backlog=128)
    config = uvicorn.Config(
        Starlette(routes=[Route(path, answer, methods=["POST"])]),
        http="h11",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=75,
    )
    print(listener.getsockname()[1], flush=True)
    await uvicorn.Server(config).serve(sockets=[listener])


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1], bytes.fromhex(sys.argv[2])))
