"""The reference: a grpc.aio server whose methods do nothing but answer with so many bytes.

It is the fastest such server that can be written: bytes in, bytes out without protobuf, one generic handler (with generated registration
the server waits on every method anew for each call), uvloop.
"""

from __future__ import annotations

import os
import subprocess
import sys
from types import TracebackType
from typing import Any, Self


class Noop:
    """Its process. `address` is where it listens."""

    def __init__(self, reply_size: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.noop", str(reply_size)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.address = f"127.0.0.1:{int(self._process.stdout.readline())}"

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()


async def _serve(reply_size: int) -> None:
    import grpc

    reply = os.urandom(reply_size)

    async def call(request: bytes, context: Any) -> bytes:
        return reply

    handler = grpc.unary_unary_rpc_method_handler(call)

    class _EveryMethod(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return handler

    server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((_EveryMethod(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(int(sys.argv[1])))
