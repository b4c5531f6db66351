"""Traces through OpenTelemetry: the spans of calls and of the requests that they make."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from contextvars import Token
from types import TracebackType
from typing import Any, Final, Self

from token_service import __version__
from token_service.telemetry.otel import close_provider, exporters_of, resource
from token_service.telemetry.sampling import Sampling
from token_service.telemetry.spans import ActiveSpan, Attributes, active, reason_of
from token_service.telemetry.trace_context import TraceParent

_getrandbits: Final = random.getrandbits


class Traces:
    """The traces of a process. They are off unless the environment names an exporter or an OTLP endpoint.

    Only then is OpenTelemetry imported.
    """

    def __init__(self, environ: Mapping[str, str], instance: str, *, trusts_callers: bool = False) -> None:
        """Set up the exporters. `instance` distinguishes the processes of a service that report to one place.

        `trusts_callers`: see `Sampling`. Raises `ConfigurationError`.
        """
        self.tracer: Tracer | None = None
        self._provider: Any = None
        if exporters := check_traces(environ):
            self._provider = _provider(exporters, instance)
            self.tracer = Tracer(self._provider, Sampling.of(environ, trusts_callers=trusts_callers))

    def close(self) -> None:
        """Export the last spans, within one second: an unreachable exporter does not delay the shutdown.

        Blocks the event loop, so call it as one of the last steps.
        """
        if self._provider is not None:
            close_provider(self._provider.shutdown, "spans")
            self._provider = None


def check_traces(environ: Mapping[str, str]) -> Sequence[Any]:
    """Return the exporter classes that the environment names. Raises `ConfigurationError` for an unusable value."""
    exporters = exporters_of(environ, "traces")
    if exporters:
        Sampling.of(environ, trusts_callers=False)
    return exporters


class Tracer:
    """Starts the spans of calls."""

    def __init__(self, provider: Any, sampling: Sampling) -> None:
        """Create a tracer for a provider of OpenTelemetry's SDK that records every span."""
        from opentelemetry import trace

        self._api: Final = trace
        self._sampling: Final = sampling
        self._sdk: Final = provider.get_tracer("token_service", __version__)

    def call(self, name: str, attributes: Attributes, parent: TraceParent | None) -> ServerSpan:
        """Return the block of a call that another program made. `name` and `attributes` have no personal data."""
        if self._sampling.samples(parent):
            span = self._sdk.start_span(
                name, self._context(parent), self._api.SpanKind.SERVER, attributes=attributes
            )
            return ServerSpan(_Sampled(self._api, self._sdk, span))
        if parent is None:
            return ServerSpan(_Unsampled(_getrandbits(128) or 1, _getrandbits(64) or 1, ""))
        return ServerSpan(_Unsampled(parent.trace_id, _getrandbits(64) or 1, parent.state))

    def _context(self, parent: TraceParent | None) -> Any:
        # An empty context instead of None: the context of the process is not the context of the call.
        from opentelemetry.context import Context

        if parent is None:
            return Context()
        api = self._api
        remote = api.SpanContext(
            parent.trace_id,
            parent.span_id,
            is_remote=True,
            trace_flags=api.TraceFlags(parent.is_sampled),
            trace_state=api.TraceState.from_header([parent.state]) if parent.state else None,
        )
        return api.set_span_in_context(api.NonRecordingSpan(remote), Context())


class ServerSpan:
    """The block of a call."""

    __slots__ = ("_reset", "_span")

    def __init__(self, span: _Sampled | _Unsampled) -> None:
        self._span = span
        self._reset: Token[ActiveSpan | None] | None = None

    def __enter__(self) -> Self:
        """Make the span the active one."""
        self._reset = active.set(self._span)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the span, unless `end` did."""
        assert self._reset is not None
        active.reset(self._reset)
        self._span.end("" if error is None else reason_of(error))

    def end(self, attribute: str, status: str | int, *, is_failure: bool) -> None:
        """Record the status of the call and end the span. `is_failure`: the server is to blame."""
        self._span.set(attribute, status)
        self._span.end(str(status) if is_failure else "")


class _Unsampled:
    """A span that is not exported. Its ids are in log lines and in headers."""

    __slots__ = ("is_open", "span_id", "state", "trace_id")

    is_sampled = False

    def __init__(self, trace_id: int, span_id: int, state: str) -> None:
        self.trace_id = trace_id
        self.span_id = span_id
        self.state = state
        self.is_open = True

    def child(self, name: str, attributes: Attributes) -> ActiveSpan:
        raise AssertionError("an unsampled span has no children")

    def fail(self, reason: str) -> None:
        pass

    def set(self, attribute: str, value: str | int) -> None:
        pass

    def end(self, failure: str = "") -> None:
        self.is_open = False


class _Sampled:
    """A span that is exported when it ends."""

    __slots__ = ("_api", "_sdk", "_span", "is_open", "is_sampled", "span_id", "state", "trace_id")

    def __init__(self, api: Any, sdk: Any, span: Any) -> None:
        context = span.get_span_context()
        self.trace_id: int = context.trace_id
        self.span_id: int = context.span_id
        self.state: str = context.trace_state.to_header()
        self.is_open = self.is_sampled = True
        self._api = api
        self._sdk = sdk
        self._span = span

    def child(self, name: str, attributes: Attributes) -> ActiveSpan:
        api = self._api
        context = api.set_span_in_context(self._span)
        span = self._sdk.start_span(name, context, api.SpanKind.CLIENT, attributes=attributes)
        return _Sampled(api, self._sdk, span)

    def fail(self, reason: str) -> None:
        self._span.set_attribute("error.type", reason)

    def set(self, attribute: str, value: str | int) -> None:
        self._span.set_attribute(attribute, value)

    def end(self, failure: str = "") -> None:
        if self.is_open:
            self.is_open = self.is_sampled = False
            if failure:
                self._span.set_status(self._api.StatusCode.ERROR)
            self._span.end()


def _provider(exporters: Sequence[Any], instance: str) -> Any:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    # At exit the provider would wait for the exporters without a limit. `Sampling` has already decided.
    provider = TracerProvider(ALWAYS_ON, resource(instance), shutdown_on_exit=False)
    for exporter in exporters:
        provider.add_span_processor(BatchSpanProcessor(exporter()))
    return provider
