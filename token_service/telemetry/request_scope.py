"""The request that runs in the current context: the id that joins its log lines, its errors and the logs of its caller."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from typing import Any, Final

from token_service.randomness import random_bytes

_SAFE: Final = re.compile(r"[A-Za-z0-9._:-]{1,128}").fullmatch
"""An id that a caller may choose. Others are ignored: they could be long, or unreadable in a line."""
_TRACEPARENT: Final = re.compile(
    r"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?"
).fullmatch

Headers = Callable[[], Iterable[tuple[str, Any]] | None]


class RequestScope:
    """One request. Its ids are read from its headers when the first line needs them: most requests write none.

    The headers may be memory of a call that gRPC frees when the call ends. So `end` must be called before, and what needs
    the ids later must call `read` before.
    """

    __slots__ = ("_headers", "_request_id", "_trace_id")

    def __init__(self, headers: Headers) -> None:
        """`headers` returns the names, in lower case, and the values of the headers."""
        self._headers: Headers | None = headers
        self._request_id = self._trace_id = ""

    @property
    def request_id(self) -> str:
        """`x-request-id` of the caller if it is safe to show, else the trace id of `traceparent`, else a random id.

        Empty if the request ended before its ids were read.
        """
        self.read()
        return self._request_id

    @property
    def trace_id(self) -> str:
        """The trace id of `traceparent` (W3C Trace Context, section 3.2); empty without one."""
        self.read()
        return self._trace_id

    def end(self) -> None:
        """Forget the headers. The ids that were read remain."""
        self._headers = None

    def read(self) -> None:
        """Read the ids, unless they were read before or the request has ended."""
        if self._headers is None:
            return
        for name, value in self._headers() or ():
            if name == "x-request-id" and isinstance(value, str) and _SAFE(value):
                self._request_id = value
            elif name == "traceparent" and isinstance(value, str) and (match := _TRACEPARENT(value)):
                self._trace_id = match[1]
        self._request_id = self._request_id or self._trace_id or random_bytes(16).hex()
        self._headers = None


_current: Final[ContextVar[RequestScope | None]] = ContextVar("request", default=None)


def begin(headers: Headers) -> RequestScope:
    """Note that a request begins in this context, and return it. Tasks that the request starts inherit the context."""
    scope = RequestScope(headers)
    _current.set(scope)
    return scope


def current() -> RequestScope | None:
    """Return the request of this context; None outside a request."""
    return _current.get()


def request_id() -> str:
    """Return the id of the current request; empty outside a request."""
    scope = _current.get()
    return "" if scope is None else scope.request_id


def fields(scope: RequestScope | None) -> Mapping[str, str]:
    """Return the fields of a log line of a request: its id, and the trace id that its caller sent."""
    if scope is None or not scope.request_id:
        return {}
    return {"request_id": scope.request_id, **({"trace_id": scope.trace_id} if scope.trace_id else {})}
