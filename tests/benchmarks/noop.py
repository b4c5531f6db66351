"""The reference: a grpc.aio server whose methods only return a message of the same size.

`Noop` runs the generated code with a servicer without a body, on uvloop as the service does. `barest` is the fastest
possible server: bytes in, bytes out without protobuf, and one generic handler, because with generated registration the
server awaits every method again for each call.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Literal, Self

Work = Literal["sign ES256", "sign RS256", "verify RS256"]


class Noop:
    """The process of the reference server. `address` is where it listens."""

    def __init__(self, method: str, reply: bytes, *, barest: bool = False, work: Work | None = None) -> None:
        """`reply`: the encoded reply to every call of `method`. `work`: a signature that each call also makes or checks."""
        how = "barest" if barest else work or "nothing"
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.benchmarks.noop", method, reply.hex(), how],
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


def worker(how: str) -> Callable[[], object]:
    """Return the signature or the check that `how`, a `Work`, names."""
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

    message, sha256 = b"x" * 600, hashes.SHA256()
    if how == "sign ES256":
        key = ec.generate_private_key(ec.SECP256R1())
        return lambda: key.sign(message, ec.ECDSA(sha256))
    private = rsa.generate_private_key(65537, 2048)
    if how == "sign RS256":
        return lambda: private.sign(message, padding.PKCS1v15(), sha256)
    signature, public = private.sign(message, padding.PKCS1v15(), sha256), private.public_key()
    return lambda: public.verify(signature, message, padding.PKCS1v15(), sha256)


def _add_generated(server: Any, method: str, reply: bytes, work: Callable[[], object] | None) -> None:
    from token_service.v1 import token_service_pb2, token_service_pb2_grpc

    message = getattr(token_service_pb2, f"{method}Response").FromString(reply)

    async def answer(self: object, request: object, context: object) -> object:
        return message

    async def answer_after_work(self: object, request: object, context: object) -> object:
        assert work is not None
        work()
        return message

    handle = answer if work is None else answer_after_work
    servicer = type("Servicer", (token_service_pb2_grpc.TokenServiceServicer,), {method: handle})
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


async def _serve(method: str, reply: bytes, how: str) -> None:
    import grpc

    server = grpc.aio.server()
    if how == "barest":
        _add_barest(server, reply)
    else:
        _add_generated(server, method, reply, None if how == "nothing" else worker(how))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1], bytes.fromhex(sys.argv[2]), sys.argv[3]))
