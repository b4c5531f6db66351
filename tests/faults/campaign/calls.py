"""Calls to the first node that answers, each with its times in the history."""

from __future__ import annotations

import asyncio
import random
from typing import Any

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from tests.faults.campaign.history import Journal, clock
from tests.faults.campaign.plan import Plan
from token_service.v1.key_service_pb2_grpc import KeyServiceStub
from token_service.v1.session_service_pb2_grpc import SessionServiceStub
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

_PASSING = {
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.ABORTED,
}
_OF_THE_CONNECTION = {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}
"""What gRPC itself says of a stream that was torn, without a reason of the service."""
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 250)]
TIMEOUT = 2.0


class Refused(Exception):  # noqa: N818  # an answer, not a failure of the campaign
    """The service said no: a definite answer with a reason."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Node:
    """The stubs of one node."""

    def __init__(self, plan: Plan, target: str) -> None:
        self.channel = grpc.aio.secure_channel(target, plan.credentials(), options=_OPTIONS)
        self.stubs: list[Any] = [
            stub(self.channel) for stub in (TokenServiceStub, SessionServiceStub, KeyServiceStub)
        ]

    def method(self, name: str) -> Any:
        return next(getattr(stub, name) for stub in self.stubs if hasattr(stub, name))


class Calls:
    """Calls to the nodes, all of which end some time: with an answer, or `Refused`."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.nodes = [Node(plan, target) for target in plan.targets]
        self._journal = journal

    async def once(
        self, name: str, request: Any, *, node: int | None = None, timeout: float = TIMEOUT
    ) -> Any:
        """One attempt; None if there was no answer. Raises `Refused`."""
        chosen = random.choice(self.nodes) if node is None else self.nodes[node]
        began = clock()
        try:
            return await chosen.method(name)(request, timeout=timeout)
        except grpc.aio.AioRpcError as error:
            reason = reason_of(error)
            if is_passing(error):
                await asyncio.sleep(0.05)
                return None
            self._journal.write(
                "rpc",
                method=name,
                code=error.code().name,
                reason=reason,
                b=began,
                e=clock(),
                text=error.details(),
            )
            raise Refused(reason) from None

    async def until_answered(self, name: str, request: Any) -> Any:
        """Repeat at any node until there is an answer. Raises `Refused`."""
        return (await self.counted(name, request))[0]

    async def counted(self, name: str, request: Any) -> tuple[Any, int]:
        """As `until_answered`, with how many attempts it took."""
        attempts = 1
        while (answer := await self.once(name, request)) is None:
            attempts += 1
        return answer, attempts


def is_passing(error: Any) -> bool:
    """Whether a status says nothing but that there was no answer."""
    if error.code() in _OF_THE_CONNECTION:
        # An exception that a handler let through is UNKNOWN with these words.
        return not reason_of(error) and not str(error.details()).startswith("Unexpected")
    return error.code() in _PASSING


def reason_of(error: Any) -> str:
    """The reason in a status, empty if there is none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
