"""How a gRPC service describes itself to the server."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from google.protobuf.message import Message

from token_service.core.access.caller import Caller
from token_service.rpc.server.reception import Context


@dataclass(frozen=True, slots=True)
class UnaryMethod:
    """A method with one request and one answer."""

    name: str
    """Of the RPC, and of its use case: `NEEDED` says which permission that needs."""
    request_type: type[Message]
    handle: Callable[[Any, Caller], Awaitable[Message | bytes]]
    at_once: Callable[[bytes, Caller], bytes | None] | None = None
    """May answer the encoded request, without waiting for anything; if it returns None, `handle` answers."""
    waits: Callable[[Any], bool] | None = None
    """Whether a request waits for others: it has the latest deadline then, and is no running call."""


class Streams(Protocol):
    """Serves the streams of one method, and limits and ends them itself."""

    async def stream(self, request: Any, context: Context, caller: Caller, /) -> None:
        """Serve one stream: write its messages, encoded, to the context."""

    def sweep(self) -> None:
        """Enforce time limits. The server calls it about twice a second."""

    def close(self) -> None:
        """End all streams so that their readers resume them elsewhere; begin no more."""

    async def aclose(self) -> None:
        """Wait for what `close` has begun, and for streams that ended before."""


@dataclass(frozen=True, slots=True)
class StreamMethod:
    """A method with one request that is answered with a stream."""

    name: str
    request_type: type[Message]
    streams: Streams


class Service(Protocol):
    """One gRPC service."""

    @property
    def name(self) -> str:
        """Its full name, with the package."""

    @property
    def is_serving(self) -> bool:
        """Whether it can answer now: its health."""

    def methods(self) -> Sequence[UnaryMethod | StreamMethod]:
        """All its methods."""
