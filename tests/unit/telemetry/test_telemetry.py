from __future__ import annotations

import io
import json
import logging
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import grpc
import pytest
from grpc._cython import cygrpc  # type: ignore[attr-defined]  # an extension without types

from tests.support.deadline import eventually
from tests.support.traced import Exported
from token_service.clock import SystemClock
from token_service.core.events.event import Action, Actor, AuditEvent
from token_service.core.events.queue import RowQueue
from token_service.errors import ConfigurationError
from token_service.telemetry import Audit, Metrics, configure_logging, registry, request_scope
from token_service.telemetry.redaction import redact
from token_service.telemetry.spans import active_ids
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import MacKeys, OpaqueToken
from token_service.tokens.secret import Secret

JWT = "eyJhbGciOiJSUzI1NiIsInR5cCI6ImF0K2p3dCJ9.eyJzdWIiOiJhbGljZSJ9.c2lnbmF0dXJl_-"
KEYS = MacKeys({1: Secret(b"k" * 32)}, 1)
TOKENS = [
    OpaqueToken(kind, 1, UUID(int=7), 0, Secret(b"s" * 32)).format(KEYS)
    for kind in (TokenKind.REFRESH, TokenKind.SESSION, TokenKind.PERSONAL_ACCESS)
]


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


def lines(log: io.StringIO) -> list[str]:
    return log.getvalue().splitlines()


def configured(level: str = "info", *, as_json: bool = False) -> io.StringIO:
    log = io.StringIO()
    configure_logging(level, as_json=as_json, stream=log)
    return log


@pytest.mark.parametrize(
    "secret", [JWT, *TOKENS, JWT.rpartition(".")[0], JWT.partition(".")[0], TOKENS[0][:40]]
)
@pytest.mark.parametrize(
    "frame", ["{}", "token={}", "'{}'", "Bearer {}\n", "https://host/?t={}&x", '{{"t":"{}"}}']
)
def test_text_like_a_token_is_redacted(secret: str, frame: str) -> None:
    text = redact(frame.format(secret))
    assert secret not in text
    assert secret[10:30] not in text
    assert "[JWT]" in text or "t_[TOKEN]" in text


def test_passwords_and_private_keys_are_redacted() -> None:
    assert redact("connect to redis://:hunter2@host:1/0 failed") == "connect to redis://:***@host:1/0 failed"
    assert redact("postgresql://me:a:b@host") == "postgresql://me:***@host"
    key = "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQ\n-----END PRIVATE KEY-----"
    assert redact(f"a {key} b") == "a [PRIVATE KEY] b"
    assert redact(f"cut {key[:40]}") == "cut [PRIVATE KEY]"


@pytest.mark.parametrize(
    "text",
    [
        "session_id=0199b0c4-7f6e-7cc3-98c4-dc0c0c07398f",
        "kid=kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k",
        "at http://127.0.0.1:8080/a@b",
        "start_time rt_ st_short report_generated_by_the_service",
    ],
)
def test_ids_are_not_redacted(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize("as_json", [False, True])
def test_token_in_message_field_or_traceback_is_not_logged(*, as_json: bool) -> None:
    log = configured(as_json=as_json)
    logger = logging.getLogger("token_service.test")
    for token in (JWT, *TOKENS):
        logger.warning("got %s", token)
        logger.warning("got", extra={"fields": {"token": token, "list": [token]}})
        try:
            raise ValueError(f"bad {token}")
        except ValueError:
            logger.exception("failed with %s", token)
        Audit().record(an_event(Action.LOG_RENEWED, a=token))
        assert token not in log.getvalue()
        assert token[10:30] not in log.getvalue()


def test_text_event_is_one_line_with_any_content() -> None:
    log = configured()
    logging.getLogger("x").warning(
        "a\nb\r\x1b[31m\u2028%s", "c\td", extra={"fields": {"k": "v w", "n": 1, "e": ""}}
    )
    (line,) = lines(log)
    assert re.match(
        r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z WARNING x a\\nb\\r\\u001b\[31m\\u2028c\\td", line
    )
    assert line.endswith('c\\td k="v w" n=1 e=""')


def test_traceback_in_text_is_indented_below_its_line() -> None:
    log = configured()
    try:
        raise ValueError("fake\n2026-01-01T00:00:00.000Z INFO    token_service.audit forged")
    except ValueError:
        logging.getLogger("x").exception("failed")
    first, *rest = lines(log)
    assert first.endswith("ERROR   x failed")
    assert rest
    assert all(line.startswith("    ") for line in rest)


def test_json_event_is_one_object() -> None:
    log = configured(as_json=True)
    logger = logging.getLogger("x")
    try:
        raise ValueError("bad\nvalue")
    except ValueError:
        logger.exception(
            "failed %d", 1, extra={"fields": {"a": [1, "b"], "message": "mine", "u": UUID(int=7)}}
        )
    (line,) = lines(log)
    event = json.loads(line)
    assert event["message"] == "failed 1"
    assert event["level"] == "error"
    assert event["logger"] == "x"
    assert event["a"] == [1, "b"]
    assert event["u"] == "00000000-0000-0000-0000-000000000007"
    assert "ValueError: bad\nvalue" in event["traceback"]


def test_audit_event_has_its_own_logger_and_fields() -> None:
    log = configured(as_json=True)
    Audit().record(an_event(Action.LOG_RENEWED, id=UUID(int=7), reason="LOGOUT", count=3, comment=None))
    event = json.loads(log.getvalue())
    assert event.pop("time")
    assert event == {
        "logger": "token_service.audit",
        "level": "info",
        "message": "log.renewed",
        "id": "00000000-0000-0000-0000-000000000007",
        "reason": "LOGOUT",
        "count": 3,
        "comment": None,
        "actor": "system:test",
        "outcome": "success",
    }


def number_in(line: str) -> str:
    return line.partition(" number=")[2].partition(" ")[0]


def an_event(action: Action, **fields: object) -> AuditEvent:
    return AuditEvent(action=action, actor=Actor.system("test"), fields=fields)


class Writes(io.StringIO):
    """A stream that records each written piece."""

    def __init__(self) -> None:
        super().__init__()
        self.pieces: list[str] = []

    def write(self, text: str) -> int:
        self.pieces.append(text)
        return super().write(text)


class Hanging(grpc.GenericRpcHandler):
    """A handler whose only method raises the given error."""

    def __init__(self, error: Exception) -> None:
        self._error = error

    def service(self, handler_call_details: Any) -> Any:
        async def fail(_request: bytes, _context: Any) -> bytes:
            raise self._error

        return grpc.unary_unary_rpc_method_handler(fail)


class Noting(logging.Filter):
    """Keeps the messages of all records and lets them pass."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def filter(self, record: logging.LogRecord) -> bool:
        self.seen.append(record.getMessage())
        return True


async def failed(error: Exception) -> None:
    """Make gRPC log that a handler raised `error`."""
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([Hanging(error)])
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        method: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary("/shop.Orders/List")
        call = method(b"")
        logged = logging.getLogger("grpc._cython.cygrpc")
        noting = Noting()
        logged.filters.insert(0, noting)
        try:
            await eventually(lambda: any("raised" in message for message in noting.seen))
        finally:
            logged.removeFilter(noting)
            call.cancel()
    await server.stop(None)


@pytest.mark.parametrize("as_json", [False, True])
async def test_caller_that_hangs_up_is_logged_at_debug(*, as_json: bool) -> None:
    log = configured(as_json=as_json)
    await failed(cygrpc.ExecuteBatchError("Failed grpc_call_start_batch"))
    assert lines(log) == []
    log = configured("debug", as_json=as_json)
    await failed(cygrpc.ExecuteBatchError("Failed grpc_call_start_batch"))
    (line,) = [line for line in lines(log) if "raised in core" in line]
    assert ("DEBUG" in line) or json.loads(line)["level"] == "debug"
    assert "/shop.Orders/List" in line
    assert "Traceback" not in log.getvalue()


async def test_handler_error_is_logged_at_error_with_traceback() -> None:
    log = configured()
    await failed(RuntimeError("out of order"))
    assert " ERROR " in lines(log)[0]
    assert "out of order" in log.getvalue()
    assert "Traceback" in log.getvalue()


async def test_routine_events_are_written_together_within_the_hold_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = Writes()
    configure_logging("info", as_json=True, stream=log)
    audit = Audit()
    clock = SimpleNamespace(time=iter([1e9, 1e9 + 0.25]).__next__)  # other threads use the real clock
    monkeypatch.setattr("token_service.telemetry.audit.time", clock)
    audit.record(an_event(Action.TOKEN_ISSUED, token_id="one"))
    audit.record(an_event(Action.TOKEN_REFRESHED, token_id="two"))
    monkeypatch.undo()
    assert log.pieces == []
    await eventually(lambda: bool(log.pieces))
    (piece,) = log.pieces
    events = [json.loads(line) for line in piece.splitlines()]
    assert [(event["time"], event["token_id"]) for event in events] == [
        ("2001-09-09T01:46:40.000Z", "one"),
        ("2001-09-09T01:46:40.250Z", "two"),
    ]
    audit.record(an_event(Action.TOKEN_ISSUED, token_id="three"))
    assert len(log.pieces) == 1
    await eventually(lambda: len(log.pieces) == 2)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
async def test_lines_have_the_ids_of_their_own_span(ratio: float) -> None:
    log = configured(as_json=True)
    tracer, audit = Exported(ratio).tracer, Audit()
    found = []
    for token_id in ("one", "two"):
        with tracer.call("call", {}, None):
            ids = active_ids()
            assert ids is not None
            found.append((token_id, *ids))
            audit.record(an_event(Action.TOKEN_ISSUED, token_id=token_id))
            logging.getLogger("x").warning("careful", extra={"fields": {"token_id": token_id}})
    audit.record(an_event(Action.LOG_RENEWED))
    events = [json.loads(line) for line in lines(log)]
    ids_of = [(each["token_id"], each["trace_id"], each["span_id"]) for each in events if "token_id" in each]
    assert sorted(ids_of) == sorted(2 * found)
    assert "trace_id" not in events[-1]


async def test_line_written_after_the_end_of_its_request_has_its_id() -> None:
    log = configured(as_json=True)
    audit = Audit()
    for number in range(2):
        request = request_scope.begin(lambda number=number: [("x-request-id", f"r-{number}")])  # type: ignore[misc]
        audit.record(an_event(Action.TOKEN_ISSUED))
        request.end()
    audit.flush()
    assert [json.loads(line)["request_id"] for line in lines(log)] == ["r-0", "r-1"]


async def test_rare_event_is_written_at_once_after_the_waiting_events() -> None:
    log = configured()
    audit = Audit()
    audit.record(an_event(Action.TOKEN_ISSUED, token_id="one"))
    assert lines(log) == []
    audit.record(an_event(Action.REFRESH_TOKEN_REUSED, session_id="two"))
    assert [line.split()[3] for line in lines(log)] == ["token.issued", "refresh_token.reused"]


async def test_routine_events_have_rows_instead_of_lines_on_request() -> None:
    log = configured()
    rows: list[AuditEvent] = []

    async def append(events: Sequence[AuditEvent]) -> None:
        rows.extend(events)

    queue = RowQueue(append, SystemClock())
    audit = Audit(rows=queue, routine_rows=True)
    audit.record(an_event(Action.TOKEN_ISSUED))
    audit.record(an_event(Action.LOG_RENEWED))  # its row was written with the renewal
    audit.record_alone(an_event(Action.PERMISSION_DENIED))
    audit.flush()
    await queue.flush()
    assert [event.action.value for event in rows] == ["token.issued", "permission.denied"]
    assert [line.split()[3] for line in lines(log)] == ["log.renewed", "permission.denied"]


async def test_at_most_256_events_wait() -> None:
    log = configured()
    audit = Audit()
    for number in range(255):
        audit.record(an_event(Action.TOKEN_ISSUED, number=number))
    assert lines(log) == []
    audit.record(an_event(Action.TOKEN_ISSUED, number=255))
    assert [number_in(line) for line in lines(log)] == [str(number) for number in range(256)]
    audit.record(an_event(Action.TOKEN_ISSUED, number=256))
    audit.flush()
    assert len(lines(log)) == 257


def test_event_without_event_loop_is_written_at_once() -> None:
    log = configured()
    Audit().record(an_event(Action.TOKEN_ISSUED, token_id="one"))
    assert len(lines(log)) == 1


async def test_pieces_of_several_lines_fit_the_atomic_pipe_write() -> None:
    log = Writes()
    configure_logging("info", as_json=False, stream=log)
    audit = Audit()
    for number in range(100):
        audit.record(an_event(Action.TOKEN_ISSUED, subject="\u00e9" * (number * 7 % 150), number=number))
    audit.record(
        an_event(Action.TOKEN_ISSUED, **{f"field_{each}": "x" * 1000 for each in range(5)}, number=100)
    )
    audit.record(an_event(Action.TOKEN_ISSUED, number=101))
    audit.flush()
    assert [int(number_in(line)) for line in lines(log)] == list(range(102))
    assert all(piece.endswith("\n") for piece in log.pieces)
    *rest, longest = sorted(len(piece.encode()) for piece in log.pieces)
    assert 5000 < longest < 5200
    assert all(size <= 4096 for size in rest)
    assert len(log.pieces) < 20


def test_lines_below_the_level_are_not_logged() -> None:
    log = configured("error")
    logging.getLogger("x").warning("no")
    logging.getLogger("x").error("yes")
    assert len(lines(log)) == 1
    log = configured("debug")
    logging.getLogger("sqlalchemy.engine").info("statement")
    logging.getLogger("x").debug("yes")
    assert len(lines(log)) == 1


@pytest.mark.parametrize("level", ["debug", "info", "warning"])
def test_malformed_requests_write_no_lines(level: str) -> None:
    log = configured(level)
    logging.getLogger("uvicorn.error").warning("Invalid HTTP request received.")
    assert not lines(log)
    logging.getLogger("uvicorn.error").error("Exception in ASGI application")
    assert len(lines(log)) == 1


def test_unwritable_log_raises_no_error() -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError("no space left")

    configure_logging("info", as_json=False, stream=Full())
    logging.getLogger("x").error("lost")
    Audit().record(an_event(Action.TOKEN_ISSUED, token_id="lost"))


def test_line_that_fails_to_format_loses_no_other_line() -> None:
    class Odd:
        def __str__(self) -> str:
            raise ValueError("no text")

    log = configured()
    logging.getLogger("x").error("lost", extra={"fields": {"odd": Odd()}})
    logging.getLogger("x").error("kept")
    assert len(lines(log)) == 1


def test_metrics_are_off_without_configuration() -> None:
    for environ in (
        {},
        {"OTEL_METRICS_EXPORTER": "none"},
        {"OTEL_METRICS_EXPORTER": "console", "OTEL_SDK_DISABLED": "true"},
    ):
        metrics = Metrics(environ, "node")
        assert metrics.counter(registry.EVENTS) is None
        assert metrics.histogram(registry.CALL_DURATION) is None
        metrics.gauge(registry.STREAMS, lambda: 1 / 0)
        metrics.update()


def test_unknown_exporter_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="OTEL_METRICS_EXPORTER is 'fax'"):
        Metrics({"OTEL_METRICS_EXPORTER": "fax"}, "node")


def test_unreachable_exporter_does_not_delay_close(tmp_path: Path) -> None:
    """The last export never ends here. A real exporter retries it."""
    (tmp_path / "away.py").write_text(
        "import threading\n"
        "from opentelemetry.sdk.metrics.export import MetricExporter\n"
        "class Away(MetricExporter):\n"
        "    def export(self, *_, **__): threading.Event().wait()\n"
        "    def shutdown(self, *_, **__): threading.Event().wait()\n"
        "    def force_flush(self, *_, **__): threading.Event().wait()\n"
    )
    info = tmp_path / "away-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: away\nVersion: 1\n")
    (info / "entry_points.txt").write_text("[opentelemetry_metrics_exporter]\naway = away:Away\n")
    program = (
        "import logging, os; from token_service.telemetry import Metrics, registry; logging.basicConfig();"
        "metrics = Metrics(os.environ, 'node'); metrics.counter(registry.JANITOR_ROWS).add(1);"
        "metrics.close(); metrics.close(); print('closed')"
    )
    root = str(Path(__file__).resolve().parents[3])
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={
            **os.environ,
            "PYTHONPATH": f"{tmp_path}{os.pathsep}{root}",
            "OTEL_METRICS_EXPORTER": "away",
        },
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "closed\n"
    assert done.stderr.count("the last metrics were not exported within 1 s and are lost") == 1
