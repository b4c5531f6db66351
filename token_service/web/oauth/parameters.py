"""The parameters of a request to an OAuth endpoint (RFC 6749, section 3.2 and appendix B)."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final
from urllib.parse import unquote

from starlette.requests import Request

from token_service.errors import InvalidRequestError

MAX_BODY: Final = 64 * 1024
"""Bytes of a request body. The longest has a subject token, an actor token and a client assertion."""
MAX_QUERY: Final = 12 * 1024
"""Characters of the query of a request that a browser sends."""
MAX_PARAMETERS: Final = 64
_SHOWN_NAME: Final = 64
"""Characters of the name of a parameter in an error message."""
_FORM: Final = b"application/x-www-form-urlencoded"
REPEATABLE: Final = frozenset({"resource", "audience"})
"""Parameters that may be sent several times (RFC 8707, section 2; RFC 8693, section 2.1)."""

_REPEATABLE_IN_QUERY: Final = frozenset({"resource"})


class Parameters:
    """Parameters by name. A parameter without a value counts as not sent (RFC 6749, section 3.1)."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, tuple[str, ...]]) -> None:
        self._values = values

    def __repr__(self) -> str:
        return f"<Parameters {', '.join(sorted(self._values))}>"  # values may be secrets

    def get(self, name: str) -> str:
        """Return the value of a parameter; empty: it was not sent."""
        values = self._values.get(name)
        return values[0] if values else ""

    def all(self, name: str) -> tuple[str, ...]:
        """Return all values of a repeatable parameter."""
        return self._values.get(name, ())

    def required(self, name: str) -> str:
        """Return the value of a parameter. Raises `InvalidRequestError` if it was not sent."""
        value = self.get(name)
        if not value:
            raise InvalidRequestError.of(name, "is required")
        return value

    def as_dict(self) -> dict[str, str]:
        """Return the first value of each parameter."""
        return {name: values[0] for name, values in self._values.items()}

    def words(self, name: str) -> tuple[str, ...]:
        """Return the words of a parameter that spaces separate, such as `scope` (RFC 6749, section 3.3)."""
        return tuple(word for word in self.get(name).split(" ") if word)


async def read_form(request: Request, most: int = MAX_BODY) -> Parameters:
    """Read the urlencoded body of a request, of at most `most` bytes. Raises `InvalidRequestError` for everything else.

    Parameters in the URL are refused, because URLs are written to logs.
    """
    if request.scope.get("query_string"):  # request.url would be parsed first, which takes 40 us
        raise InvalidRequestError.of("query", "must be empty; send the parameters in the body")
    headers: list[tuple[bytes, bytes]] = request.scope["headers"]
    types = [value for name, value in headers if name == b"content-type"]
    # Of two types, a proxy could believe the other one.
    if len(types) != 1 or types[0].partition(b";")[0].strip().lower() != _FORM:
        raise InvalidRequestError.of("content-type", f"must be {_FORM.decode()}")
    if any(name == b"content-encoding" and value.lower() != b"identity" for name, value in headers):
        raise InvalidRequestError.of("content-encoding", "must not be sent")
    return parse_form(await read_body(request, most))


def query_of(request: Request) -> Parameters:
    """Return the parameters in the URL of a request of a browser. Raises `InvalidRequestError`."""
    query = request.url.query
    if len(query) > MAX_QUERY:
        raise InvalidRequestError.of("query", f"is longer than {MAX_QUERY} characters; send a form")
    return parse_form(query.encode("utf-8", "replace"), _REPEATABLE_IN_QUERY)


async def read_body(request: Request, most: int) -> bytes:
    """Return the body of a request of at most `most` bytes. Raises `InvalidRequestError` for a longer one."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise InvalidRequestError.of("body", "ended early")
        part = message.get("body", b"")
        size += len(part)
        if size > most:
            raise InvalidRequestError.of("body", f"is longer than {most} bytes")
        parts.append(part)
        if not message.get("more_body", False):
            return b"".join(parts)


def parse_form(body: bytes, repeatable: Collection[str] = REPEATABLE) -> Parameters:
    """Parse an urlencoded body. Raises `InvalidRequestError`."""
    try:
        pairs = [_pair(each) for each in body.decode("ascii").split("&", MAX_PARAMETERS)] if body else []
        if len(pairs) > MAX_PARAMETERS:
            raise ValueError
    except ValueError:
        raise InvalidRequestError.of(
            "body", f"is not {_FORM.decode()} in UTF-8 with at most {MAX_PARAMETERS} parameters"
        ) from None
    values: dict[str, tuple[str, ...]] = {}
    for name, value in pairs:
        if not value:
            continue
        if name in values and name not in repeatable:
            raise InvalidRequestError.of(name[:_SHOWN_NAME], "is sent more than once")
        values[name] = (*values.get(name, ()), value)
    return Parameters(values)


def _pair(text: str) -> tuple[str, str]:
    """Return a decoded parameter. Raises `ValueError`. The standard parser takes twice as long for most parameters."""
    name, equals, value = text.partition("=")
    if not equals:
        raise ValueError
    return _decoded(name), _decoded(value)


def _decoded(text: str) -> str:
    if "+" in text:
        text = text.replace("+", " ")
    return unquote(text, errors="strict") if "%" in text else text
