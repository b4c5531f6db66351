"""Metrics through OpenTelemetry."""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

from token_service.errors import ConfigurationError

DURATIONS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
"""Upper bounds in seconds, from a response from memory to one that waited for the database."""


class Counter(Protocol):
    """A metric that counts events."""

    def add(self, amount: int, attributes: Mapping[str, str | int]) -> None:
        """Add `amount` to the count."""
        ...


class Histogram(Protocol):
    """A metric that records measurements."""

    def record(self, amount: float, attributes: Mapping[str, str | int]) -> None:
        """Add one measurement."""
        ...


class Metrics:
    """The metrics of a process. They are off unless the environment enables them.

    `OTEL_METRICS_EXPORTER`, `OTEL_EXPORTER_OTLP_ENDPOINT` and similar variables enable them, as does
    `opentelemetry-instrument`. Only then is OpenTelemetry imported: its import takes longer than any other step of
    the start.
    """

    def __init__(self, environ: Mapping[str, str], instance: str) -> None:
        """Set up the exporters. `instance` distinguishes the processes of a service that report to one place."""
        self._meter: Any = None
        self._provider: Any = None
        exporters = find_exporters(environ)
        if exporters or (_is_enabled(environ) and _is_instrumented()):
            self._meter, self._provider = _meter(exporters, instance)

    def close(self) -> None:
        """Export the last metrics, within one second: an unreachable exporter does not delay the shutdown.

        Blocks the event loop, so call it as the last step.
        """
        if self._provider is not None:
            # A daemon thread does not delay the end of the process either.
            last = threading.Thread(target=self._provider.shutdown, args=(_LAST_REPORT * 1000,), daemon=True)
            last.start()
            last.join(_LAST_REPORT)
            if last.is_alive():
                logging.getLogger(__name__).warning(
                    "the last metrics were not exported within %d s and are lost", _LAST_REPORT
                )
            self._provider = None

    def counter(self, name: str, description: str) -> Counter | None:
        """Return a counter, or None if metrics are off."""
        if self._meter is None:
            return None
        counter: Counter = self._meter.create_counter(name, "1", description)
        return counter

    def histogram(self, name: str, description: str, boundaries: Sequence[float]) -> Histogram | None:
        """Return a histogram of seconds, or None if metrics are off."""
        if self._meter is None:
            return None
        histogram: Histogram = self._meter.create_histogram(
            name, "s", description, explicit_bucket_boundaries_advisory=boundaries
        )
        return histogram

    def gauge(self, name: str, description: str, read: Callable[[], float], unit: str = "1") -> None:
        """Register a gauge. At each export another thread calls `read` for its value."""
        if self._meter is not None:
            from opentelemetry.metrics import Observation

            self._meter.create_observable_gauge(name, [lambda _: [Observation(read())]], unit, description)


def find_exporters(environ: Mapping[str, str]) -> list[Any]:
    """Return the exporter classes that the environment names.

    Returns none under `opentelemetry-instrument`, which sets up the exporters itself. Raises `ConfigurationError` for
    an exporter that is not installed.
    """
    if not _is_enabled(environ) or _is_instrumented():
        return []
    endpoint = any(environ.get(name) for name in _OTLP_ENDPOINTS)
    exporters = environ.get("OTEL_METRICS_EXPORTER", "otlp" if endpoint else "none")
    return [_exporter(name) for each in exporters.split(",") if (name := each.strip()) not in {"", "none"}]


def _is_enabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def _is_instrumented() -> bool:
    return "opentelemetry.instrumentation.auto_instrumentation" in sys.modules


_OTLP_ENDPOINTS: Final = ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_METRICS_ENDPOINT")


_LAST_REPORT: Final = 1
"""Seconds the last export may take."""


def _meter(exporters: Sequence[Any], instance: str) -> tuple[Any, Any]:
    """Return a meter, and its provider if `Metrics` must shut it down."""
    from opentelemetry.metrics import get_meter, set_meter_provider

    provider = None
    if exporters:
        from opentelemetry.sdk.metrics import MeterProvider
        from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
        from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, Resource

        readers: list[MetricReader] = []
        for exporter in exporters:
            made = exporter()
            readers.append(made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made))
        resource = Resource({SERVICE_NAME: "token-service", SERVICE_INSTANCE_ID: instance})
        if not str(Resource.create().attributes[SERVICE_NAME]).startswith("unknown_service"):
            resource = Resource({SERVICE_INSTANCE_ID: instance})
        # At exit the provider would wait for the exporters without a limit.
        provider = MeterProvider(readers, Resource.create().merge(resource), shutdown_on_exit=False)
        set_meter_provider(provider)
    return get_meter("token_service"), provider


def _exporter(name: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group="opentelemetry_metrics_exporter", name=name):
        return point.load()
    raise ConfigurationError(
        f"OTEL_METRICS_EXPORTER is {name!r}, but no such exporter is installed; install the package that has it "
        f"(`opentelemetry-exporter-{name}`), or set OTEL_METRICS_EXPORTER=none"
    )
