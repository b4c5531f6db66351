"""W3C Trace Context, Level 2: the headers `traceparent` and `tracestate` of a call."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Final, NamedTuple

TRACEPARENT: Final = "traceparent"
TRACESTATE: Final = "tracestate"

_TRACEPARENT: Final = re.compile(
    r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})(-[!-~]{0,200})?"
)
_KEY: Final = r"[a-z0-9][a-z0-9_\-*/]{0,240}(?:@[a-z][a-z0-9_\-*/]{0,13})?"
_MEMBER: Final = re.compile(rf"{_KEY}=[ -+\--<>-~]{{0,255}}[!-+\--<>-~]")
_MAX_MEMBERS: Final = 32
_MAX_STATE: Final = 512
"""Characters of a `tracestate` that vendors must support. A longer one is dropped."""


class TraceParent(NamedTuple):
    """The span of a caller."""

    trace_id: int
    span_id: int
    is_sampled: bool
    state: str = ""
    """The value of `tracestate`; empty if it is missing or malformed."""


def parent_of(headers: Iterable[tuple[str, Any]]) -> TraceParent | None:
    """Return the caller's span, or None without exactly one valid `traceparent`.

    `headers` have names in lower case. As the specification demands, a malformed `tracestate` does not invalidate the
    `traceparent`.
    """
    found, states = None, []
    for name, value in headers:
        if name == TRACEPARENT:
            if found is not None:
                return None
            found = value
        elif name == TRACESTATE:
            states.append(value)
    if type(found) is not str:
        return None
    match = _TRACEPARENT.fullmatch(found)
    if match is None:
        return None
    version, trace_id, span_id, flags, more = match.groups()
    if more is not None and version == "00":
        return None
    state = _state(states) if states else ""
    return TraceParent(int(trace_id, 16), int(span_id, 16), bool(int(flags, 16) & 1), state)


def traceparent(trace_id: int, span_id: int, *, is_sampled: bool) -> str:
    """Return the value of the header for a span."""
    return f"00-{trace_id:032x}-{span_id:016x}-0{is_sampled:d}"


def _state(values: Iterable[Any]) -> str:
    try:
        text = ",".join(values)
    except TypeError:  # bytes
        return ""
    if len(text) > _MAX_STATE:
        return ""
    members = [member for each in text.split(",") if (member := each.strip(" \t"))]
    keys = {member.partition("=")[0] for member in members}
    if len(members) > _MAX_MEMBERS or len(keys) != len(members):
        return ""
    return ",".join(members) if all(map(_MEMBER.fullmatch, members)) else ""
