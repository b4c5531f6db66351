"""Calls to the first node that answers, recorded in the history with their times."""

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
"""Codes that gRPC itself reports for a broken stream, without a reason of the service."""
_OPTIONS = [("grpc.use_local_subchannel_pool", 1), ("grpc.max_reconnect_backoff_ms", 250)]
TIMEOUT = 2.0


class Refused(Exception):  # noqa: N818  # an answer, not a failure of the campaign
    """The service refused the request: a definite answer with a reason."""

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
    """Calls to the nodes. Every call ends with an answer or with `Refused`."""

    def __init__(self, plan: Plan, journal: Journal) -> None:
        self.nodes = [Node(plan, target) for target in plan.targets]
        self._journal = journal

    async def once(
        self, name: str, request: Any, *, node: int | None = None, timeout: float = TIMEOUT
    ) -> Any:
        """Make one attempt. Return None without an answer; raise `Refused` for a refusal."""
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
        """Repeat at random nodes until one answers. Raise `Refused` for a refusal."""
        return (await self.counted(name, request))[0]

    async def counted(self, name: str, request: Any) -> tuple[Any, int]:
        """Call as `until_answered` does; return the answer and the number of attempts."""
        attempts = 1
        while (answer := await self.once(name, request)) is None:
            attempts += 1
        return answer, attempts


def is_passing(error: Any) -> bool:
    """Return whether a status means only that no answer arrived."""
    if error.code() in _OF_THE_CONNECTION:
        # grpc.aio reports an exception that a handler did not catch as UNKNOWN with these words.
        return not reason_of(error) and not str(error.details()).startswith("Unexpected")
    return error.code() in _PASSING


def reason_of(error: Any) -> str:
    """Return the reason in a status; empty if it has none."""
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return str(info.reason)
    return ""
