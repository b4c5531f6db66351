"""Page tokens of lists in order of time and id: the time and the id of the last row of a page."""

from __future__ import annotations

from token_service.tokens import base64url
from token_service.tokens.claims import MAX_NUMERIC_DATE


def format_page_token(create_time: float, row_id: bytes) -> str:
    """Return the token of the page after a row."""
    return base64url.encode(round(create_time * 1_000_000).to_bytes(8) + row_id)


def parse_page_token(text: str) -> tuple[int, bytes]:
    """Return the time of a row in microseconds, and its id. Raises `ValueError`."""
    data = base64url.decode(text.encode("ascii"))
    micros, row_id = int.from_bytes(data[:8]), data[8:]
    if not row_id or micros > MAX_NUMERIC_DATE * 1_000_000:
        raise ValueError("not a position")
    return micros, row_id


def text_id(row_id: bytes) -> str:
    """Return an id that is text. Raises `ValueError`, also for a NUL, which PostgreSQL does not take in a text."""
    text = row_id.decode()
    if "\0" in text:
        raise ValueError("not a text id")
    return text
