"""Traces that are kept in memory."""

from __future__ import annotations

from typing import Any

from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from token_service.telemetry import Tracer
from token_service.telemetry.sampling import Sampling


class Exported:
    """A tracer, and the spans that it has exported."""

    def __init__(self, ratio: float = 1.0, *, trusts_callers: bool = False) -> None:
        self._memory = InMemorySpanExporter()
        self.provider = TracerProvider()
        self.provider.add_span_processor(SimpleSpanProcessor(self._memory))
        self.tracer = Tracer(
            self.provider, Sampling(ratio, follows_parent=True, trusts_callers=trusts_callers)
        )

    @property
    def spans(self) -> list[Any]:
        """The spans in the order of their end."""
        return list(self._memory.get_finished_spans())

    def named(self, name: str) -> Any:
        """Return the only span with this name."""
        (span,) = [span for span in self.spans if span.name == name]
        return span
