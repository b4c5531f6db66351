"""Calls of the service: generated stubs, decoded failures, and a minimal validator."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self, cast

import grpc
from google.protobuf import duration_pb2
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2_grpc
from grpc_status import rpc_status

from tests.support.deadline import eventually
from token_service.v1 import (
    key_service_pb2_grpc,
    session_service_pb2_grpc,
    token_pb2,
    token_service_pb2,
    token_service_pb2_grpc,
)

TIMEOUT = 60.0
"""Timeout of calls in seconds. Only a hanging call takes as long."""

ACCESS, REFRESH, ID, SESSION = (
    token_pb2.TOKEN_TYPE_ACCESS,
    token_pb2.TOKEN_TYPE_REFRESH,
    token_pb2.TOKEN_TYPE_ID,
    token_pb2.TOKEN_TYPE_SESSION,
)
STRONG = token_service_pb2.CONSISTENCY_STRONG


@dataclass(frozen=True)
class Failure:
    """A decoded error status. `reason` is empty without an ErrorInfo of this service."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: Mapping[str, str]
    violations: Mapping[str, str]
    retry_after: float | None

    @classmethod
    def of(cls, error: grpc.aio.AioRpcError) -> Failure:
        """Decode the error of a call or a stream."""
        reason, metadata, violations, retry_after = "", {}, {}, None
        status = rpc_status.from_call(cast("Any", error))  # the types know no errors of grpc.aio
        for detail in status.details if status is not None else ():
            info, bad, retry = (
                error_details_pb2.ErrorInfo(),
                error_details_pb2.BadRequest(),
                error_details_pb2.RetryInfo(),
            )
            if detail.Unpack(info):
                assert info.domain == "token_service"
                reason, metadata = info.reason, dict(info.metadata)
            elif detail.Unpack(bad):
                violations = {item.field: item.description for item in bad.field_violations}
            elif detail.Unpack(retry):
                retry_after = retry.retry_delay.ToTimedelta().total_seconds()
        return cls(error.code(), error.details() or "", reason, metadata, violations, retry_after)


async def refused(call: Awaitable[object]) -> Failure:
    """Return the failure of a call that must fail."""
    try:
        answer = await call
    except grpc.aio.AioRpcError as error:
        return Failure.of(error)
    raise AssertionError(f"the call was not refused but returned {type(answer).__name__}")


class Api:
    """One connection to one node, with a stub for each service.

    Several objects have separate connections, so they reach several workers.
    """

    def __init__(
        self,
        address: str,
        credentials: grpc.ChannelCredentials | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        options = [
            ("grpc.use_local_subchannel_pool", 1),
            ("grpc.initial_reconnect_backoff_ms", 50),
            ("grpc.max_reconnect_backoff_ms", 250),
            ("grpc.max_receive_message_length", -1),
            ("grpc.max_send_message_length", -1),
            *options,
        ]
        self.channel = (
            grpc.aio.insecure_channel(address, options)
            if credentials is None
            else grpc.aio.secure_channel(address, credentials, options)
        )
        self.tokens = token_service_pb2_grpc.TokenServiceStub(self.channel)
        self.sessions = session_service_pb2_grpc.SessionServiceStub(self.channel)
        self.keys = key_service_pb2_grpc.KeyServiceStub(self.channel)
        self.health: Any = health_pb2_grpc.HealthStub(self.channel)  # its types lack the methods

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.channel.close()

    async def issue(self, subject: str = "alice", **fields: Any) -> token_service_pb2.IssueTokenResponse:
        """Call IssueToken with default fields."""
        fields = {"client_id": "web", "audience": ["api"], "scopes": ["read", "write"], **fields}
        request = token_service_pb2.IssueTokenRequest(subject=subject, **fields)
        return await self.tokens.IssueToken(request, timeout=TIMEOUT)

    async def refresh(
        self, token: str, client_id: str = "web", **fields: Any
    ) -> token_service_pb2.RefreshTokenResponse:
        """Call RefreshToken for the client that `issue` names."""
        request = token_service_pb2.RefreshTokenRequest(refresh_token=token, client_id=client_id, **fields)
        return await self.tokens.RefreshToken(request, timeout=TIMEOUT)

    async def validate(self, token: str, **fields: Any) -> token_service_pb2.ValidateTokenResponse:
        """Call ValidateToken, with CONSISTENCY_LOCAL unless a field says otherwise."""
        request = token_service_pb2.ValidateTokenRequest(token=token, **fields)
        return await self.tokens.ValidateToken(request, timeout=TIMEOUT)

    async def why(self, token: str, **fields: Any) -> str:
        """Return why the token is not active: a name of InvalidReason without its prefix; empty if it is active."""
        answer = await self.validate(token, **fields)
        assert answer.active == (answer.reason == token_service_pb2.INVALID_REASON_UNSPECIFIED)
        assert answer.active == answer.HasField("claims")
        name = token_service_pb2.InvalidReason.Name(answer.reason)
        return "" if answer.active else name.removeprefix("INVALID_REASON_")

    async def revoke(
        self, *, wait: float | None = None, **fields: Any
    ) -> token_service_pb2.RevokeTokenResponse:
        """Call RevokeToken. `wait`: seconds to wait for all validators."""
        request = token_service_pb2.RevokeTokenRequest(**fields)
        if wait is not None:
            request.wait.applied_by_all = True
            request.wait.timeout.CopyFrom(duration_pb2.Duration(seconds=int(wait), nanos=int(wait % 1 * 1e9)))
        return await self.tokens.RevokeToken(request, timeout=TIMEOUT + (wait or 0))

    async def confirm(self, subscriber_id: str, cursor: str) -> str:
        """Call ConfirmRevocations and return the head."""
        request = token_service_pb2.ConfirmRevocationsRequest(
            subscriber_id=subscriber_id, applied_cursor=cursor
        )
        return (await self.tokens.ConfirmRevocations(request, timeout=TIMEOUT)).head_cursor

    def stream(self, cursor: str = "", subscriber_id: str = "") -> Any:
        """Start StreamRevocations and return the call, which the caller cancels."""
        request = token_service_pb2.StreamRevocationsRequest(cursor=cursor, subscriber_id=subscriber_id)
        return self.tokens.StreamRevocations(request)


def sequence(cursor: str) -> int:
    """Return the sequence in a cursor; 0 for the beginning."""
    return int(cursor.rpartition(":")[2]) if cursor else 0


class Follower:
    """A validator that applies a stream by the rules of protos/README.md and records the received messages.

    With `confirm` it confirms each cursor, at the node it follows or at another one.
    """

    def __init__(
        self, api: Api, cursor: str = "", subscriber_id: str = "", *, confirm: Api | None = None
    ) -> None:
        self._api = api
        self._subscriber_id = subscriber_id
        self._confirm = confirm
        self.cursor = cursor
        self.resets = 0
        self.caught_up = False
        self.entries: list[token_service_pb2.Revocation] = []
        """Entries since the last reset, in order of arrival."""
        self.fingerprints: set[bytes] = set()
        self.key_sets: list[Any] = []
        self.messages = 0
        self.end: Failure | None = None
        """How the stream ended; None while it runs or after `cut`."""
        self._call: Any = None
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._call = self._api.stream(self.cursor, self._subscriber_id)
        self._task = asyncio.create_task(self._follow())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.cut()

    async def cut(self) -> None:
        """End the stream from this side."""
        assert self._task is not None
        self._call.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._task

    async def caught_up_to(self, cursor: str, timeout: float = 60) -> None:
        """Wait until every entry up to a cursor is applied."""
        await eventually(lambda: self._reached(cursor), timeout=timeout)

    async def ended(self, timeout: float = 60) -> Failure:
        """Wait until the server ends the stream."""
        await eventually(lambda: self._task is not None and self._task.done(), timeout=timeout)
        assert self.end is not None, "the stream ended without a status that asks to resume"
        return self.end

    @property
    def sequences(self) -> list[int]:
        """Sequences of the received entries; entries of a snapshot may have 0."""
        return [entry.sequence for entry in self.entries]

    def _reached(self, cursor: str) -> bool:
        if self.end is not None:
            raise RuntimeError(f"the stream ended with {self.end}")
        same_log = self.cursor.partition(":")[0] == cursor.partition(":")[0]
        return self.caught_up and same_log and sequence(self.cursor) >= sequence(cursor)

    async def _follow(self) -> None:
        try:
            async for message in self._call:
                self._apply(message)
                if self._confirm is not None and message.cursor:
                    await self._confirm.confirm(self._subscriber_id, message.cursor)
        except grpc.aio.AioRpcError as error:
            if error.code() is not grpc.StatusCode.CANCELLED:
                self.end = Failure.of(error)

    def _apply(self, message: token_service_pb2.StreamRevocationsResponse) -> None:
        self.messages += 1
        if message.reset:
            self.resets += 1
            self.entries.clear()
            self.fingerprints.clear()
            self.cursor = ""
            self.caught_up = False
        for block in message.snapshot_blocks:
            packed = block.fingerprints
            self.fingerprints |= {packed[at : at + 8] for at in range(0, len(packed), 8)}
        self.entries += message.revocations
        if message.HasField("key_set"):
            assert message.key_set.keys
            self.key_sets.append(message.key_set)
        if message.cursor:
            self.cursor = message.cursor
        self.caught_up = self.caught_up or message.caught_up
