from __future__ import annotations

import io
import json
import logging
import re
from collections.abc import Iterator
from contextvars import copy_context

import pytest

from token_service.telemetry import configure_logging, request_scope
from token_service.telemetry.request_scope import RequestScope

TRACE = "0af7651916cd43dd8448eb211c80319c"
TRACEPARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level, raises = root.handlers[:], root.level, logging.raiseExceptions
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.raiseExceptions = raises


def scope(*headers: tuple[str, str | bytes]) -> RequestScope:
    return RequestScope(lambda: headers)


@pytest.mark.parametrize("chosen", ["a", "req-1.2_3:4", "A" * 128])
def test_safe_id_of_the_caller_is_kept(chosen: str) -> None:
    assert scope(("x-request-id", chosen), ("traceparent", TRACEPARENT)).request_id == chosen


@pytest.mark.parametrize("chosen", ["", "A" * 129, "a b", 'a"', "a\nb", "\u00e9", "a\n", b"binary"])
def test_unsafe_id_of_the_caller_is_replaced(chosen: str | bytes) -> None:
    made = scope(("x-request-id", chosen))
    assert re.fullmatch("[0-9a-f]{32}", made.request_id)
    assert made.request_id == made.request_id
    assert made.trace_id == ""


def test_id_is_the_trace_id_without_one_of_the_caller() -> None:
    assert scope(("traceparent", TRACEPARENT)).request_id == TRACE
    assert scope(("traceparent", TRACEPARENT)).trace_id == TRACE


@pytest.mark.parametrize(
    "malformed", [f"00-{'0' * 32}-b7ad6b7169203331-01", TRACE, TRACEPARENT.upper(), f"{TRACEPARENT}x"]
)
def test_malformed_traceparent_is_ignored(malformed: str) -> None:
    assert scope(("traceparent", malformed)).trace_id == ""


def test_headers_are_not_read_before_an_id_is_needed() -> None:
    def headers() -> list[tuple[str, str]]:
        raise AssertionError

    copy_context().run(request_scope.begin, headers)


def test_headers_are_not_read_after_the_end_of_the_request() -> None:
    def headers() -> list[tuple[str, str]]:
        raise AssertionError

    def work() -> None:
        request_scope.begin(headers).end()
        assert request_scope.fields(request_scope.current()) == {}
        assert request_scope.request_id() == ""

    copy_context().run(work)


def test_ids_that_were_read_outlive_the_request() -> None:
    made = scope(("x-request-id", "r-1"), ("traceparent", TRACEPARENT))
    made.read()
    made.end()
    assert request_scope.fields(made) == {"request_id": "r-1", "trace_id": TRACE}


def test_json_line_has_a_fixed_order_and_the_ids_of_its_request() -> None:
    stream = io.StringIO()
    configure_logging("info", as_json=True, stream=stream)
    logger = logging.getLogger("token_service.example")

    def work() -> None:
        request_scope.begin(lambda: [("x-request-id", "r-1"), ("traceparent", TRACEPARENT)])
        # A field can't replace a member that every line has.
        logger.warning(
            "happened", extra={"fields": {"b": 1, "a": 2, "level": "forged", "request_id": "forged"}}
        )

    copy_context().run(work)
    logger.warning("outside")
    first, second = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert list(first) == ["time", "level", "logger", "message", "request_id", "trace_id", "b", "a"]
    assert (first["level"], first["request_id"], first["trace_id"]) == ("warning", "r-1", TRACE)
    assert list(second) == ["time", "level", "logger", "message"]
