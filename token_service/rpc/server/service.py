"""Descriptions of gRPC services for the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from token_service.core.access.caller import Caller
from token_service.rpc.server.reception import Context


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """A method with one request and one response."""

    name: str
    """Name of the RPC and of its use case; `NEEDED` maps it to the required permission."""
    request_type: type[Message]
    handle: Callable[[Any, Caller], Awaitable[Message | bytes]]
    at_once: Callable[[bytes, Caller], bytes | None] | None = None
    """May answer the encoded request without blocking; if it returns None, `handle` answers."""
    waits: Callable[[Any], bool] | None = None
    """Whether a request waits for subscribers: it then has the maximum deadline and is not counted as running."""


class Streams(Protocol):
    """Serves, limits and ends the streams of one method."""

    async def stream(self, request: Any, context: Context, caller: Caller, /) -> None:
        """Serve one stream: write its messages, encoded, to the context."""

    def sweep(self) -> None:
        """Enforce time limits. The server calls this method about twice a second."""

    def close(self) -> None:
        """End all streams so that their readers resume on another node; refuse new ones."""

    async def aclose(self) -> None:
        """Wait for the work that `close` started, and for streams that ended before."""


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A method with one request and a stream of responses."""

    name: str
    request_type: type[Message]
    streams: Streams


class Service(Protocol):
    """One gRPC service."""

    @property
    def name(self) -> str:
        """Full name of the service, with the package."""

    @property
    def is_serving(self) -> bool:
        """Whether the service can answer now: its health."""

    def methods(self) -> Sequence[UnaryMethod | StreamMethod]:
        """Return all methods of the service."""
