"""A server on a loopback port around a node on stores in memory, with stubs and helpers for callers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Self

import grpc
import pytest
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.unit.core.node import Node
from token_service.app.edges import make_event_readers, make_feed, make_services
from token_service.clock import SystemClock
from token_service.rpc.server.authorizer import Authorizer, TrustingAuthorizer
from token_service.rpc.server.grpc_limits import GrpcLimits
from token_service.rpc.server.server import GrpcServer
from token_service.rpc.server.service import Service
from token_service.rpc.stream.feed import Feed
from token_service.telemetry import Metrics
from token_service.tokens.algorithms import Algorithm
from token_service.v1 import (
    client_service_pb2_grpc,
    key_service_pb2_grpc,
    session_service_pb2_grpc,
    token_service_pb2 as pb,
    token_service_pb2_grpc,
)

TIMEOUT = 60.0
"""Seconds. Only a call that hangs takes this long."""


class Served:
    """A running server with its node, and stubs of one channel to it."""

    def __init__(
        self, node: Node, server: GrpcServer, feed: Feed, services: Sequence[Service], address: str
    ) -> None:
        self.node = node
        self.server = server
        self.feed = feed
        self.services = {service.name: service for service in services}
        self.address = address
        self.channel = grpc.aio.insecure_channel(address)
        self.use(self.channel)

    def use(self, channel: grpc.aio.Channel) -> None:
        self.tokens: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        self.sessions: Any = session_service_pb2_grpc.SessionServiceStub(channel)
        self.clients: Any = client_service_pb2_grpc.ClientServiceStub(channel)
        self.keys: Any = key_service_pb2_grpc.KeyServiceStub(channel)

    async def issue(self, **fields: Any) -> pb.IssueTokenResponse:
        request = pb.IssueTokenRequest(**{"subject": "alice", "client_id": "web", **fields})
        return await self.tokens.IssueToken(request, timeout=TIMEOUT)

    async def validate(self, token: str, **fields: Any) -> pb.ValidateTokenResponse:
        return await self.tokens.ValidateToken(
            pb.ValidateTokenRequest(token=token, **fields), timeout=TIMEOUT
        )

    async def revoke(self, **fields: Any) -> pb.RevokeTokenResponse:
        return await self.tokens.RevokeToken(pb.RevokeTokenRequest(**fields), timeout=TIMEOUT)

    def follow(self, cursor: str = "", subscriber_id: str = "", channel: Any = None) -> Reader:
        tokens: Any = self.tokens if channel is None else token_service_pb2_grpc.TokenServiceStub(channel)
        request = pb.StreamRevocationsRequest(cursor=cursor, subscriber_id=subscriber_id)
        return Reader(tokens.StreamRevocations(request))


class Reader:
    """One stream with its messages so far."""

    def __init__(self, call: Any) -> None:
        self.call = call
        self.messages: list[pb.StreamRevocationsResponse] = []

    async def next(self) -> pb.StreamRevocationsResponse:
        message = await asyncio.wait_for(self.call.read(), TIMEOUT)
        assert message is not grpc.aio.EOF, "the stream has ended"
        self.messages.append(message)
        return message

    async def caught_up(self) -> pb.StreamRevocationsResponse:
        """Read until a message reaches the head, and return that message."""
        while not (message := await self.next()).caught_up:
            pass
        return message

    async def ended(self) -> Failure:
        """Read to the end and return its status."""
        try:
            while await asyncio.wait_for(self.call.read(), TIMEOUT) is not grpc.aio.EOF:
                pass
        except grpc.aio.AioRpcError as error:
            return Failure(error)
        raise AssertionError("the stream ended with OK")

    @property
    def cursor(self) -> str:
        return [message.cursor for message in self.messages if message.cursor][-1]

    @property
    def sequences(self) -> list[int]:
        return [entry.sequence for message in self.messages for entry in message.revocations]

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        self.call.cancel()


class Failure:
    """An error status, decoded."""

    def __init__(self, error: grpc.aio.AioRpcError) -> None:
        self.code = error.code().name
        self.message = error.details() or ""
        self.reason = ""
        self.metadata: dict[str, str] = {}
        self.fields: dict[str, str] = {}
        self.retry_after: float | None = None
        status = rpc_status.from_call(error)  # type: ignore[arg-type]  # its types know no asyncio
        for detail in status.details if status is not None else ():
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                self.reason, self.metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                self.fields = {v.field: v.description for v in bad.field_violations}
            elif detail.Unpack(retry):
                self.retry_after = retry.retry_delay.ToTimedelta().total_seconds()

    def __repr__(self) -> str:
        return f"<{self.code} {self.reason}: {self.message!r} {self.fields}>"


async def refused(call: Any) -> Failure:
    """Return the failure of a call that must fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return Failure(error)
    raise AssertionError(f"answered: {answer!r}")


def complaints(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return the logged messages of level INFO and above.

    gRPC may find an event of the closed loop of an earlier test and log it to the current loop. A server has one
    loop, so these messages are left out.
    """
    return [
        record.getMessage()
        for record in caplog.records
        if record.levelno >= logging.INFO and "PollerCompletionQueue" not in record.getMessage()
    ]


@asynccontextmanager
async def serving(
    *,
    node: Node | None = None,
    authorizer: Authorizer | None = None,
    address: str = "127.0.0.1:0",
    tls: Any = None,
    limits: GrpcLimits | None = None,
    **node_options: Any,
) -> AsyncIterator[Served]:
    """Run a server around `node`, or around a new node."""
    node_options.setdefault("algorithm", Algorithm.ES256)
    node = node or Node(SystemClock(), **node_options)
    await node.start()
    authorizer, limits = authorizer or TrustingAuthorizer(), limits or GrpcLimits()
    feed = make_feed(node.core, authorizer, limits)
    metrics = Metrics({}, "test")
    event_readers = make_event_readers(node.core, authorizer, limits)
    services = make_services(node.core, feed, event_readers, metrics)
    server = GrpcServer(
        services,
        limits=limits,
        authorizer=authorizer,
        address=address,
        reuse_port=False,
        tls=tls,
        metrics=metrics,
        refusals=node.core.refusals,
    )
    async with AsyncExitStack() as stack:
        background = node.core.background()
        for name in ("tailer", "subscriber-reports", "event-feed"):
            stack.push_async_callback(_end, asyncio.create_task(background[name]()))
        bound = await server.start()
        stack.push_async_callback(_end, asyncio.create_task(server.run()))
        stack.push_async_callback(server.stop, 2)
        served = Served(node, server, feed, services, bound)
        stack.push_async_callback(served.channel.close)
        yield served


async def _end(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.wait([task])
