"""`TOKEN_SERVICE_LOG_FORMAT=json`: each line of a node is JSON, from every source."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import socket
from typing import Any

import grpc
from google.rpc.error_details_pb2 import RequestInfo
from google.rpc.status_pb2 import Status

from tests.integration.nodes import Node, key_encryption_key
from tests.support.deadline import eventually
from token_service import __version__
from token_service.v1 import token_service_pb2 as pb, token_service_pb2_grpc as tokens_grpc

TRACE = "0af7651916cd43dd8448eb211c80319c"


def parsed(node: Node) -> list[dict[str, Any]]:
    """Return the complete lines of the log."""
    lines = [json.loads(line) for line in node.log_text().rpartition("\n")[0].splitlines()]
    for line in lines:
        assert list(line)[:4] == ["time", "level", "logger", "message"]
    return lines


def send(address: str, data: bytes) -> None:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(data)
        try:
            while connection.recv(4096):
                pass
        except ConnectionError:
            pass


async def test_every_line_is_json_and_a_request_keeps_its_id() -> None:
    env = {
        "TOKEN_SERVICE_LOG_FORMAT": "json",
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
        # gRPC's core reports what it does with a connection, also one that fails.
        "GRPC_VERBOSITY": "debug",
        "GRPC_TRACE": "http",
        "TOKEN_SERVICE_UNKNOWN": "warns",
    }
    with Node("--workers", "2", env=env, ready_timeout=60) as node:
        ready = await eventually(lambda: [line for line in parsed(node) if line["message"] == "ready"])
        assert ready[0] | {"time": ""} == {
            "time": "",
            "level": "info",
            "logger": "token_service.cli.serve",
            "message": "ready",
            "version": __version__,
            "grpc_address": node.grpc_address,
            "http_address": node.http_address,
        }
        await asyncio.to_thread(send, node.grpc_address, b"GET / HTTP/1.1\r\n\r\n")
        async with grpc.aio.insecure_channel(node.grpc_address) as channel:
            stub = tokens_grpc.TokenServiceStub(channel)
            metadata = (("x-request-id", "mine-1"), ("traceparent", f"00-{TRACE}-b7ad6b7169203331-01"))
            await stub.RevokeToken(pb.RevokeTokenRequest(subject="alice"), metadata=metadata, timeout=60)
            error = await refused(stub, (("x-request-id", "mine-2"),))
            assert error == "mine-2"
            assert re.fullmatch("[0-9a-f]{32}", await refused(stub, (("x-request-id", 'no "id"'),)))
        assert await asyncio.to_thread(unknown_page, node.http_address) == "mine-3"
        lines = await eventually(lambda: [line for line in parsed(node) if line["message"] == "revoked"])
        assert (lines[0]["request_id"], lines[0]["trace_id"], lines[0]["value"]) == ("mine-1", TRACE, "alice")
        await eventually(lambda: [line for line in parsed(node) if line["logger"] == "grpc.core"])
        assert await asyncio.to_thread(node.terminate) == 0
        assert node.log_text().endswith("\n")
        assert {"stopping", "TOKEN_SERVICE_UNKNOWN is not a setting and has no effect"} <= {
            line["message"] for line in parsed(node)
        }


async def refused(stub: Any, metadata: tuple[tuple[str, str], ...]) -> str:
    """Return the id of the request in the details of an error."""
    try:
        await stub.RefreshToken(pb.RefreshTokenRequest(refresh_token="rt_x"), metadata=metadata, timeout=60)
    except grpc.aio.AioRpcError as error:
        trailers = dict(error.trailing_metadata() or ())
        for detail in Status.FromString(trailers["grpc-status-details-bin"]).details:
            info = RequestInfo()
            if detail.Unpack(info):
                return info.request_id
    raise AssertionError("no error with the id of its request")


def unknown_page(address: str) -> str | None:
    """Return the id of the request in the response of a refused request."""
    connection = http.client.HTTPConnection(address, timeout=60)
    try:
        connection.request("POST", "/token", headers={"X-Request-Id": "mine-3"})
        return connection.getresponse().getheader("X-Request-Id")
    finally:
        connection.close()
