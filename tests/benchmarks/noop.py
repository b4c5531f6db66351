"""The reference: a grpc.aio server whose methods only return a message of the same size.

`Noop` runs the generated code with a servicer without a body, on uvloop as the service does. `barest` is the fastest
possible server: bytes in, bytes out without protobuf, and one generic handler, because with generated registration the
server awaits every method again for each call.
"""

from __future__ import annotations

import subprocess
import sys
from types import TracebackType
from typing import Any, Self


class Noop:
    """The process of the reference server. `address` is where it listens."""

    def __init__(self, method: str, reply: bytes, *, barest: bool = False) -> None:
        """`reply`: the encoded reply to every call of `method`."""
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.noop", method, reply.hex(), *(["barest"] * barest)],
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


def _add_generated(server: Any, method: str, reply: bytes) -> None:
    from token_service.v1 import token_service_pb2, token_service_pb2_grpc

    message = getattr(token_service_pb2, f"{method}Response").FromString(reply)

    async def answer(self: object, request: object, context: object) -> object:
        return message

    servicer = type("Servicer", (token_service_pb2_grpc.TokenServiceServicer,), {method: answer})
    token_service_pb2_grpc.add_TokenServiceServicer_to_server(servicer(), server)


def _add_barest(server: Any, reply: bytes) -> None:
    import grpc

    async def answer(request: bytes, context: object) -> bytes:
        return reply

    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(answer)

    class EveryMethod(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
            return handler

    server.add_generic_rpc_handlers((EveryMethod(),))


async def _serve(method: str, reply: bytes, *, barest: bool) -> None:
    import grpc

    server = grpc.aio.server()
    if barest:
        _add_barest(server, reply)
    else:
        _add_generated(server, method, reply)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1], bytes.fromhex(sys.argv[2]), barest="barest" in sys.argv))
