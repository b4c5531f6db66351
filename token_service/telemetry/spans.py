"""The span of the running call, and the spans of the requests that the call makes.

The functions of this module cost the read of a context variable while traces are off, and import nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from functools import partial
from types import TracebackType
from typing import Any, Final, Protocol

from token_service.telemetry.trace_context import TRACEPARENT, TRACESTATE, traceparent

Attributes = Mapping[str, str | int]


class ActiveSpan(Protocol):
    """A span while its code runs."""

    trace_id: int
    span_id: int
    state: str
    """The value of `tracestate`."""

    is_open: bool
    """Whether the span has not ended. A task that outlives its call keeps the span of the call."""
    is_sampled: bool
    """Whether the span is open and will be exported."""

    def child(self, name: str, attributes: Attributes) -> ActiveSpan:
        """Start the span of a request to another system. Only if the span is sampled."""
        ...

    def fail(self, reason: str) -> None:
        """Record the reason of an error. The last one stays."""
        ...

    def end(self, failure: str = "") -> None:
        """End the span; `failure` marks it as failed."""
        ...


active: Final[ContextVar[ActiveSpan | None]] = ContextVar("token_service_span", default=None)
"""The span of the running code; None while traces are off, and outside of calls."""


class ClientSpan:
    """A block that is traced as a request to another system."""

    __slots__ = ("_attributes", "_name", "_parent", "_reset", "_span")

    def __init__(self, parent: ActiveSpan, name: str, attributes: Attributes) -> None:
        self._parent = parent
        self._name = name
        self._attributes = attributes
        self._span: ActiveSpan | None = None
        self._reset: Token[ActiveSpan | None] | None = None

    def __enter__(self) -> None:
        """Start the span."""
        self._span = self._parent.child(self._name, self._attributes)
        self._reset = active.set(self._span)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the span, as failed with the reason or the class of an error."""
        assert self._span is not None
        assert self._reset is not None
        active.reset(self._reset)
        if error is not None:
            self._span.fail(reason_of(error))
        self._span.end("" if error is None else reason_of(error))


class _Nothing:
    __slots__ = ()

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None


_NOTHING: Final = _Nothing()


def client_span(name: str | Callable[..., Any], attributes: Attributes) -> ClientSpan | _Nothing:
    """Trace a block as a request to another system, if the running call is sampled.

    `name` is the name of the span, or the function whose name it is. Background work is not traced.
    """
    parent = active.get()
    if parent is None or not parent.is_sampled:
        return _NOTHING
    return ClientSpan(parent, name if isinstance(name, str) else _name_of(name), attributes)


def note_error(reason: str) -> None:
    """Record the reason for which the running call fails."""
    span = active.get()
    if span is not None and span.is_open:
        span.fail(reason)


def context_headers() -> list[tuple[str, str]]:
    """Return the headers that pass the active span on to another service."""
    span = active.get()
    if span is None or not span.is_open:
        return []
    headers = [(TRACEPARENT, traceparent(span.trace_id, span.span_id, is_sampled=span.is_sampled))]
    if span.state:
        headers.append((TRACESTATE, span.state))
    return headers


def active_ids() -> tuple[str, str] | None:
    """Return the ids of the trace and of the active span in hexadecimal; None without a span."""
    span = active.get()
    if span is None or not span.is_open:
        return None
    return f"{span.trace_id:032x}", f"{span.span_id:016x}"


def reason_of(error: BaseException) -> str:
    """Return the stable reason of an error, else the name of its class. Its message may quote a request."""
    reason = getattr(getattr(error, "reason", None), "value", None)
    return reason if isinstance(reason, str) else type(error).__name__


def _name_of(work: Callable[..., Any]) -> str:
    while isinstance(work, partial):
        work = work.func
    name: str = getattr(work, "__qualname__", type(work).__qualname__)
    return name.rpartition(".<locals>")[0] or name
