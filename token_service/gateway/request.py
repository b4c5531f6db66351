"""The request of a client as a proxy describes it, and the credentials in it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final
from urllib.parse import unquote

from token_service.client._internal.request_path import readings
from token_service.tokens.possession import Scheme

_TOKEN: Final = re.compile(r"(?i:(bearer)|dpop) +([A-Za-z0-9\-._~+/]+=*) *")
_MAX_KNOWN_PATH: Final = 256


@dataclass(slots=True, kw_only=True)
class ClientRequest:
    """The request of a client. Texts that the proxy does not tell are empty."""

    method: str
    path: str
    """Path and query as the client sent them."""
    host: str
    scheme: str
    authorization: str | None = field(repr=False)
    """None: there is no such header. Values of several headers are joined with commas."""
    dpop: str | None = field(repr=False)
    is_preflight: bool
    """Whether it is a CORS preflight, which has no credentials."""
    certificate: str = field(default="", repr=False)
    """The client certificate, in the form of its configured source."""
    misleading: bool = False
    """Whether an underscore makes the name of a header look like one of the gateway's to the application."""
    texts: Mapping[str, str]
    """The requirements that the proxy asks for."""


def credentials(authorization: str) -> tuple[Scheme, str] | None:
    """Return scheme and token of an `Authorization` header; None: it has another scheme or is malformed."""
    match = _TOKEN.fullmatch(authorization)
    if match is None:
        return None
    return Scheme.BEARER if match[1] else Scheme.DPOP, match[2]


def readings_of(path: str) -> int:
    """Return in how many ways applications can read a path (with or without query); 0: in a dangerous one."""
    if len(path) <= _MAX_KNOWN_PATH:
        return _known_readings(path.partition("?")[0])
    return _readings(path.partition("?")[0])


def _readings(path: str) -> int:
    if not path.startswith("/") or not path.isascii() or "#" in path:
        return 0
    return len(readings({"path": unquote(path, errors="replace"), "raw_path": path.encode()}))


_known_readings = lru_cache(4096)(_readings)
