"""W3C Trace Context: which headers are a caller's span."""

from __future__ import annotations

import pytest

from token_service.telemetry.trace_context import TraceParent, parent_of, traceparent

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
VALID = f"00-{TRACE}-{SPAN}-01"


def test_valid_context_is_read() -> None:
    headers = [("x", "1"), ("traceparent", VALID), ("tracestate", "a=1"), ("tracestate", " b@c=2,,")]
    assert parent_of(headers) == TraceParent(int(TRACE, 16), int(SPAN, 16), True, "a=1,b@c=2")


@pytest.mark.parametrize(
    ("value", "sampled"),
    [
        (f"00-{TRACE}-{SPAN}-00", False),
        (f"00-{TRACE}-{SPAN}-02", False),
        (f"00-{TRACE}-{SPAN}-03", True),
        (f"01-{TRACE}-{SPAN}-01-more", True),
        (f"cc-{TRACE}-{SPAN}-01", True),
    ],
)
def test_flags_and_later_versions_are_read(value: str, *, sampled: bool) -> None:
    parent = parent_of([("traceparent", value)])
    assert parent is not None
    assert parent.is_sampled is sampled


@pytest.mark.parametrize(
    "value",
    [
        "",
        "garbage",
        VALID.upper(),
        f"{VALID}\n",
        f" {VALID}",
        f"{VALID}-more",
        f"ff-{TRACE}-{SPAN}-01",
        f"01-{TRACE}-{SPAN}-01more",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE[:-1]}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-1",
        f"00-{TRACE}-{SPAN}-0g",
        f"00-{TRACE}-{SPAN}-\uff10\uff11",
        VALID.encode(),
    ],
)
def test_malformed_traceparent_is_ignored(value: str | bytes) -> None:
    assert parent_of([("traceparent", value)]) is None


def test_two_traceparents_are_ignored() -> None:
    assert parent_of([("traceparent", VALID), ("traceparent", VALID)]) is None


@pytest.mark.parametrize(
    "states",
    [
        ["no-equals"],
        ["A=1"],
        ["a=1,a=2"],
        ["a=\x00"],
        ["a=é"],
        ["a=b=c"],
        [f"a={'x' * 257}"],
        [",".join(f"k{n}=1" for n in range(33))],
        [f"a={'x' * 256}", f"b={'x' * 256}"],
        [b"a=1"],
    ],
)
def test_malformed_tracestate_is_dropped_alone(states: list[str]) -> None:
    parent = parent_of([("traceparent", VALID), *(("tracestate", state) for state in states)])
    assert parent is not None
    assert not parent.state


def test_header_of_a_span() -> None:
    assert traceparent(int(TRACE, 16), int(SPAN, 16), is_sampled=True) == VALID
    assert traceparent(1, 2, is_sampled=False) == f"00-{'0' * 31}1-{'0' * 15}2-00"
