"""The gateway's Check over a unix socket, against a no-op grpc.aio server with messages of the same size.

As a program it is the no-op server: `python -m tests.benchmarks.gateway ADDRESS REPLY`, with the reply in hexadecimal digits.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc

from tests.benchmarks.duel import Effort, Side, duel
from tests.benchmarks.load import Job, Load, write_messages
from tests.benchmarks.rpcs import SERVICE, access_request, claims
from tests.benchmarks.table import Row
from tests.support.gateway_process import GatewayProcess
from tests.support.processes import ServiceProcess
from token_service.gateway.envoy.external_auth_pb2 import CheckRequest, CheckResponse
from token_service.v1 import token_service_pb2 as pb

CHECK = "/envoy.service.auth.v3.Authorization/Check"
_HEADERS = {
    ":authority": "api.example",
    ":path": "/orders/17?expand=items",
    ":method": "GET",
    ":scheme": "https",
    "accept": "application/json",
    "accept-encoding": "gzip, deflate, br",
    "user-agent": "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "x-forwarded-for": "203.0.113.9",
    "x-forwarded-proto": "https",
    "x-request-id": "0f6c1f38-5a0c-4d5e-9d1c-6d8a8f1f3c55",
    "x-envoy-internal": "true",
}
"""What Envoy sends by default for a request of a browser."""


def check_request(token: str) -> CheckRequest:
    """Return a check as Envoy sends it."""
    request = CheckRequest()
    http = request.attributes.request.http
    http.method, http.path, http.host, http.scheme = "GET", _HEADERS[":path"], "api.example", "https"
    for name, value in _HEADERS.items():
        http.headers[name] = value
    http.headers["authorization"] = f"Bearer {token}"
    request.attributes.context_extensions["scopes"] = "orders:read"
    return request


def check(effort: Effort) -> Iterator[Row]:
    """Measure checks of the same token."""
    audience = claims()["audience"][0]
    with (
        ServiceProcess(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256"}) as service,
        GatewayProcess(service.grpc_address, audience=audience) as gateway,
        tempfile.TemporaryDirectory() as directory,
    ):
        with grpc.insecure_channel(service.grpc_address) as channel:
            issue: Any = channel.unary_unary(f"{SERVICE}IssueToken")
            issued = pb.IssueTokenResponse.FromString(issue(access_request().SerializeToString(), timeout=30))
        request = check_request(issued.access_token).SerializeToString()
        with grpc.insecure_channel(gateway.grpc_address) as channel:
            call: Any = channel.unary_unary(CHECK)
            reply = call(request, timeout=30)
        assert CheckResponse.FromString(reply).HasField("ok_response")
        messages = Path(directory) / "requests"
        write_messages(messages, [request])
        with (
            _noop(f"unix:{directory}/noop.sock", reply) as noop,
            Load(Job(gateway.grpc_address, CHECK, str(messages))) as ours,
            Load(Job(f"unix:{directory}/noop.sock", CHECK, str(messages))) as reference,
        ):
            outcome = duel(
                Side(ours, gateway.pid),
                Side(reference, noop.pid),
                rounds=effort.rounds,
                seconds=effort.seconds,
            )
    rate, noop_rate = outcome.rate_cells
    yield Row(
        "gateway Check over a unix socket",
        rate,
        f"no-op {noop_rate}",
        outcome.rate,
        at_least=0.85,
        note=outcome.note,
    )


@contextmanager
def _noop(address: str, reply: bytes) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.gateway", address, reply.hex()],
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait()


async def _serve(address: str, reply: bytes) -> None:
    message = CheckResponse.FromString(reply)

    async def answer(request: CheckRequest, context: object) -> CheckResponse:
        return message

    server = grpc.aio.server()
    method: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        answer,
        request_deserializer=CheckRequest.FromString,
        response_serializer=CheckResponse.SerializeToString,
    )
    service = CHECK.rpartition("/")[0][1:]
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(service, {"Check": method}),))
    server.add_insecure_port(address)
    await server.start()
    print("ready", flush=True)
    await server.wait_for_termination()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_serve(sys.argv[1], bytes.fromhex(sys.argv[2])))
