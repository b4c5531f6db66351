"""Spans of calls and of the requests that they make."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

import pytest

from tests.support.traced import Exported
from token_service.errors import ConfigurationError, OverloadedError
from token_service.telemetry.spans import active_ids, client_span, context_headers, note_error
from token_service.telemetry.trace_context import TraceParent, parent_of
from token_service.telemetry.traces import Traces, check_traces

PARENT = TraceParent(0xA1, 0xB2, True, "vendor=1")
RATE = "parentbased_traceidratio"


def test_request_is_a_child_of_its_call_and_the_call_of_its_caller() -> None:
    exported = Exported()
    with exported.tracer.call("call", {"rpc.method": "call"}, PARENT):
        with client_span("query", {"db.system.name": "sqlite"}):
            inner = parent_of(context_headers())
        outer = parent_of(context_headers())
    query, call = exported.spans
    assert (query.name, query.kind.name, dict(query.attributes)) == (
        "query",
        "CLIENT",
        {"db.system.name": "sqlite"},
    )
    assert (call.name, call.kind.name, dict(call.attributes)) == ("call", "SERVER", {"rpc.method": "call"})
    assert (call.parent.trace_id, call.parent.span_id, call.parent.is_remote) == (0xA1, 0xB2, True)
    assert query.parent.span_id == call.context.span_id
    assert query.context.trace_id == call.context.trace_id == 0xA1
    assert inner == TraceParent(0xA1, query.context.span_id, True, "vendor=1")
    assert outer == TraceParent(0xA1, call.context.span_id, True, "vendor=1")


def test_failed_request_has_the_reason_and_not_the_message() -> None:
    exported = Exported()
    with exported.tracer.call("call", {}, None) as call:
        with pytest.raises(OverloadedError), client_span("query", {}):
            raise OverloadedError("alice's calls")
        note_error("OVERLOADED")
        call.end("status", 8, is_failure=False)
    query, server = exported.spans
    assert (query.attributes["error.type"], query.status.status_code.name) == ("OVERLOADED", "ERROR")
    assert dict(server.attributes) == {"error.type": "OVERLOADED", "status": 8}
    assert server.status.status_code.name == "UNSET"
    assert not any(span.events or span.status.description for span in exported.spans)


def test_unsampled_call_keeps_the_trace_and_exports_nothing() -> None:
    exported = Exported(ratio=0.0)
    with exported.tracer.call("call", {}, PARENT), client_span("query", {}):
        ids, headers = active_ids(), context_headers()
    assert exported.spans == []
    assert ids is not None
    assert ids[0] == f"{0xA1:032x}"
    assert headers == [("traceparent", f"00-{ids[0]}-{ids[1]}-00"), ("tracestate", "vendor=1")]


def test_calls_without_parents_have_traces_of_their_own() -> None:
    for ratio in (0.0, 1.0):
        exported = Exported(ratio)
        traces = set()
        for _ in range(2):
            with exported.tracer.call("call", {}, None):
                ids = active_ids()
                assert ids is not None
                traces.add(ids[0])
        assert len(traces) == 2


def test_code_outside_of_calls_is_not_traced() -> None:
    exported = Exported()
    with client_span("query", {}):
        assert (active_ids(), context_headers()) == (None, [])
    assert exported.spans == []


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_task_that_outlives_its_call_is_not_traced(ratio: float) -> None:
    exported = Exported(ratio)
    with exported.tracer.call("call", {}, None) as call:
        call.end("status", 0, is_failure=False)
        with client_span("query", {}):
            assert (active_ids(), context_headers()) == (None, [])
        note_error("LATE")
    assert [span.name for span in exported.spans] == ["call"][: int(ratio)]


def test_transaction_has_the_name_of_its_function() -> None:
    class Store:
        def load(self) -> None:
            def work(_: object) -> None:
                """Stand for a transaction."""

            with client_span(partial(work, 1), {}):
                pass

    exported = Exported()
    with exported.tracer.call("call", {}, None):
        Store().load()
    assert exported.spans[0].name.endswith("Store.load")


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_TRACES_SAMPLER": "unknown"},
        {"OTEL_TRACES_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_METRICS_ENDPOINT": "http://127.0.0.1:4318"},
    ],
)
def test_traces_are_off_unless_the_environment_asks(environ: dict[str, str]) -> None:
    traces = Traces(environ, "node")
    assert traces.tracer is None
    traces.close()


def test_off_means_that_opentelemetry_is_not_imported() -> None:
    program = (
        "import sys, token_service.app.node, token_service.telemetry as t\n"
        "t.Traces({}, 'node').close(); print([name for name in sys.modules if 'opentelemetry' in name])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"OTEL_TRACES_EXPORTER": "fax"}, "OTEL_TRACES_EXPORTER is 'fax', but no such exporter is installed"),
        ({"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": "some"}, "OTEL_TRACES_SAMPLER is 'some'"),
        (
            {"OTEL_TRACES_EXPORTER": "console", "OTEL_TRACES_SAMPLER": RATE, "OTEL_TRACES_SAMPLER_ARG": "2"},
            "OTEL_TRACES_SAMPLER_ARG is '2'",
        ),
    ],
)
def test_unusable_values_are_refused(environ: dict[str, str], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        check_traces(environ)
    with pytest.raises(ConfigurationError, match=message):
        Traces(environ, "node")


def test_spans_are_exported_at_the_end() -> None:
    program = (
        "from token_service.telemetry import Traces\n"
        "traces = Traces({'OTEL_TRACES_EXPORTER': 'console'}, 'node-7')\n"
        "with traces.tracer.call('call', {}, None): pass\n"
        "traces.close()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    span = json.loads(done.stdout)
    assert span["name"] == "call"
    assert span["resource"]["attributes"]["service.name"] == "token-service"
    assert span["resource"]["attributes"]["service.instance.id"] == "node-7"
