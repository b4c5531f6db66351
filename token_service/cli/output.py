"""Output of commands: tables for people, JSON for programs."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from unicodedata import combining, east_asian_width

import click

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.message import Message
    from google.protobuf.timestamp_pb2 import Timestamp

MAX_CELL: Final = 60
"""Columns of a table cell. Ids of sessions and keys fit."""

output_option = click.option(
    "-o",
    "--output",
    type=click.Choice(["table", "json"]),
    default="table",
    show_default=True,
    help="The output format.",
)


def show_json(document: Any) -> None:
    """Print a JSON document."""
    click.echo(json.dumps(document, indent=2))


def show_messages(
    messages: Iterable[Message],
    output: str,
    header: Sequence[str],
    row: Callable[[Any], Sequence[str]],
) -> None:
    """Print messages as a JSON list of protobuf JSON, or as a table with a line for each."""
    if output == "json":
        show_json([members(message) for message in messages])
    else:
        show_table(header, [row(message) for message in messages])


def show_message(message: Message, output: str, fields: Callable[[Any], Sequence[tuple[str, str]]]) -> None:
    """Print one message as protobuf JSON, or as lines with a name and a value. Empty values are left out."""
    if output == "json":
        show_json(members(message))
        return
    shown = [(visible(name), visible(value)) for name, value in fields(message) if value]
    width = max((len(name) for name, _ in shown), default=0)
    for name, value in shown:
        click.echo(f"{name:<{width}}  {value}")


def members(message: Message) -> dict[str, Any]:
    """Return a message as protobuf JSON with the names of the proto file. Fields with zero values are included."""
    from google.protobuf.json_format import MessageToDict

    document: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return document


def show_table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print aligned columns. Longer cells are cut, and characters that a terminal would interpret are escaped."""
    cells = [list(header), *([_cut(visible(cell)) for cell in row] for row in rows)]
    widths = [max(_width(row[column]) for row in cells) for column in range(len(header))]
    for row in cells:
        padded = (cell + " " * (width - _width(cell)) for cell, width in zip(row, widths, strict=True))
        click.echo("  ".join(padded).rstrip())


def show_line(text: str, *, err: bool = False) -> None:
    """Print one line of text, with characters that a terminal would interpret escaped. `err`: to standard error."""
    click.echo(visible(text), err=err)


def visible(text: str) -> str:
    """Return a text without characters that a terminal would interpret."""
    from token_service.telemetry.fields import escape

    return escape(text)


def time_text(seconds: float) -> str:
    """Return a time as text in UTC."""
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def timestamp_text(message: Message, field: str) -> str:
    """Return a Timestamp field as text in UTC; `-` if it is unset."""
    if not message.HasField(field):
        return "-"
    value: Timestamp = getattr(message, field)
    return time_text(value.seconds + value.nanos / 1e9)


def span_text(message: Message, field: str) -> str:
    """Return a Duration field as text with its largest units, e.g. `3d 4h`; `-` if it is unset."""
    if not message.HasField(field):
        return "-"
    value: Duration = getattr(message, field)
    seconds = value.seconds + value.nanos / 1e9
    if seconds < 1:
        return f"{round(seconds * 1000)}ms"
    if seconds < 10:
        return f"{seconds:.1f}s"
    rest, parts = int(seconds), []
    for unit, size in (("d", 86_400), ("h", 3600), ("m", 60), ("s", 1)):
        count, rest = divmod(rest, size)
        if count:
            parts.append(f"{count}{unit}")
    return " ".join(parts[:2])


def _cut(text: str) -> str:
    if _width(text) <= MAX_CELL:
        return text
    text = text[: 8 * MAX_CELL]  # room for characters without width
    while _width(text) >= MAX_CELL:
        text = text[:-1]
    return f"{text}…"


def _width(text: str) -> int:
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(each) in "WF" else 0 if combining(each) else 1 for each in text)
