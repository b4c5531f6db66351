"""The OpenTelemetry SDK, set up from the environment. It is imported only if the environment asks for it.

Its import takes longer than any other step of the start.
"""

from __future__ import annotations

import logging
import sys
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from token_service import __version__
from token_service.errors import ConfigurationError
from token_service.telemetry.metric import Metric

_LISTENS: Final = "prometheus"
"""The exporter that listens on a port."""
_LAST_REPORT: Final = 1
"""Seconds the last export may take."""

_NUMBERS: Final = frozenset({"http.response.status_code"})
"""Attributes that are numbers in OpenTelemetry."""

Attributes = Mapping[str, str | int]


class OtelCounter:
    """A counter of OpenTelemetry."""

    def __init__(self, counter: Any, metric: Metric) -> None:
        self._counter = counter
        self._attributes = _AttributeCache(metric)

    def add(self, amount: float, *labels: str) -> None:
        """See `Counter.add`."""
        self._counter.add(amount, self._attributes[labels])


class OtelHistogram:
    """A histogram of OpenTelemetry."""

    def __init__(self, histogram: Any, metric: Metric) -> None:
        self._histogram = histogram
        self._attributes = _AttributeCache(metric)

    def record(self, amount: float, *labels: str) -> None:
        """See `Histogram.record`."""
        self._histogram.record(amount, self._attributes[labels])


class _AttributeCache(dict[tuple[str, ...], Attributes]):
    """The attributes of each combination of labels. The registry bounds their number."""

    def __init__(self, metric: Metric) -> None:
        self._metric = metric

    def __missing__(self, labels: tuple[str, ...]) -> Attributes:
        attributes: Attributes = {
            **self._metric.constant,
            **{
                name: int(value) if name in _NUMBERS else value
                for name, value in zip(self._metric.labels, labels, strict=True)
            },
        }
        self[labels] = attributes
        return attributes


class Otel:
    """The meter of a process, with the exporters that the environment names."""

    def __init__(self, exporters: Sequence[Any], instance: str) -> None:
        """Set up the exporters. `instance` distinguishes the processes of a service that report to one place."""
        from opentelemetry.metrics import get_meter, set_meter_provider

        self._provider: Any = None
        if exporters:
            from opentelemetry.sdk.metrics import MeterProvider
            from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader

            readers: list[MetricReader] = []
            for exporter in exporters:
                made = exporter()
                readers.append(
                    made if isinstance(made, MetricReader) else PeriodicExportingMetricReader(made)
                )
            # At exit the provider would wait for the exporters without a limit.
            self._provider = MeterProvider(readers, resource(instance), shutdown_on_exit=False)
            set_meter_provider(self._provider)
        self._meter = get_meter("token_service", __version__)

    def counter(self, metric: Metric) -> OtelCounter:
        """Return the counter of a metric."""
        return OtelCounter(self._meter.create_counter(metric.name, metric.unit, metric.text), metric)

    def histogram(self, metric: Metric) -> OtelHistogram:
        """Return the histogram of a metric."""
        histogram = self._meter.create_histogram(
            metric.name, metric.unit, metric.text, explicit_bucket_boundaries_advisory=metric.buckets
        )
        return OtelHistogram(histogram, metric)

    def gauge(self, metric: Metric, values: Callable[[], Iterable[tuple[tuple[str, ...], float]]]) -> None:
        """Register a gauge. At each export another thread calls `values`."""
        from opentelemetry.metrics import Observation

        attributes = _AttributeCache(metric)

        def observe(_: Any) -> list[Any]:
            return [Observation(value, attributes[labels]) for labels, value in values()]

        self._meter.create_observable_gauge(metric.name, [observe], metric.unit, metric.text)

    def close(self) -> None:
        """Export the last metrics, within one second: an unreachable exporter does not delay the shutdown.

        Blocks the event loop, so call it as the last step.
        """
        if self._provider is not None:
            close_provider(self._provider.shutdown, "metrics", _LAST_REPORT * 1000)
            self._provider = None


def close_provider(shutdown: Callable[..., Any], exported: str, *arguments: int) -> None:
    """Export the rest with `shutdown`, within one second."""
    # A daemon thread does not delay the end of the process either.
    last = threading.Thread(target=shutdown, args=arguments, daemon=True)
    last.start()
    last.join(_LAST_REPORT)
    if last.is_alive():
        logging.getLogger(__name__).warning(
            "the last %s were not exported within %d s and are lost", exported, _LAST_REPORT
        )


def open_otel(environ: Mapping[str, str], instance: str) -> Otel | None:
    """Return OpenTelemetry if the environment enables it: an exporter, or `opentelemetry-instrument`.

    Raises `ConfigurationError`.
    """
    exporters = find_exporters(environ)
    if exporters or (_is_enabled(environ) and _is_instrumented()):
        return Otel(exporters, instance)
    return None


def find_exporters(environ: Mapping[str, str]) -> list[Any]:
    """Return the classes of the exporters of metrics that the environment names.

    Returns none under `opentelemetry-instrument`, which sets up the exporters itself. Raises `ConfigurationError` for
    an exporter that is not installed.
    """
    return [] if _is_instrumented() else exporters_of(environ, "metrics")


def exporters_of(environ: Mapping[str, str], signal: str) -> list[Any]:
    """Return the classes of the exporters of `metrics` or `traces` that the environment names.

    Raises `ConfigurationError` for an exporter that is not installed.
    """
    if not _is_enabled(environ):
        return []
    return [_exporter(name, signal) for name in _names(environ, signal)]


def require_shareable_exporters(environ: Mapping[str, str], workers: int) -> None:
    """Raise `ConfigurationError` for an exporter that only one of several workers could use."""
    if workers > 1 and _is_enabled(environ) and _LISTENS in _names(environ, "metrics"):
        raise ConfigurationError(
            f"OTEL_METRICS_EXPORTER is {environ['OTEL_METRICS_EXPORTER']!r}, which listens on one port, but "
            f"{workers} workers would each need it; set OTEL_METRICS_EXPORTER=none and "
            "TOKEN_SERVICE_METRICS_ADDRESS=127.0.0.1:9464, whose /metrics speaks for all workers"
        )


def _names(environ: Mapping[str, str], signal: str) -> list[str]:
    upper = signal.upper()
    endpoints = ("OTEL_EXPORTER_OTLP_ENDPOINT", f"OTEL_EXPORTER_OTLP_{upper}_ENDPOINT")
    default = "otlp" if any(environ.get(name) for name in endpoints) else "none"
    exporters = environ.get(f"OTEL_{upper}_EXPORTER", default)
    return [name for each in exporters.split(",") if (name := each.strip()) not in {"", "none"}]


def _is_enabled(environ: Mapping[str, str]) -> bool:
    return environ.get("OTEL_SDK_DISABLED", "").lower() != "true"


def _is_instrumented() -> bool:
    return "opentelemetry.instrumentation.auto_instrumentation" in sys.modules


def resource(instance: str) -> Any:
    """Return the attributes of this process. Those that the environment names win."""
    from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource

    given = Resource.create()
    own = {SERVICE_INSTANCE_ID: instance}
    if str(given.attributes[SERVICE_NAME]).startswith("unknown_service"):
        own[SERVICE_NAME] = "token-service"
    if SERVICE_VERSION not in given.attributes:
        own[SERVICE_VERSION] = __version__
    return given.merge(Resource(own))


def _exporter(name: str, signal: str) -> Any:
    from importlib.metadata import entry_points

    for point in entry_points(group=f"opentelemetry_{signal}_exporter", name=name):
        return point.load()
    variable = f"OTEL_{signal.upper()}_EXPORTER"
    raise ConfigurationError(
        f"{variable} is {name!r}, but no such exporter is installed; install the package that has it "
        f"(`opentelemetry-exporter-{name}`), or set {variable}=none"
    )
