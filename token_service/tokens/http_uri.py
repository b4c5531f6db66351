"""Comparison of HTTP URIs (RFC 3986, section 6.2; RFC 9449, section 4.3)."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import urlsplit

MAX_HTTP_URI: Final = 8 * 1024
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}
_PERCENT: Final = re.compile(r"%([0-9A-Fa-f]{2})")
_UNRESERVED: Final = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_CHARACTERS: Final = re.compile(r"[!-~]+")


def normalized(uri: str) -> str:
    """Return an `http` or `https` URI without query and fragment, normalized by syntax and by scheme.

    Raises `ValueError` for any other text, and for a URI with user information.
    """
    if len(uri) > MAX_HTTP_URI or not _CHARACTERS.fullmatch(uri):
        raise ValueError("not a URI of at most 8192 characters")
    parts = urlsplit(uri)
    host, port = parts.hostname, parts.port  # raises ValueError
    scheme = parts.scheme.lower()
    if scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
        raise ValueError("not an http or https URI with a host and without user information")
    if ":" in host:
        host = f"[{host}]"
    shown = "" if port is None or port == _DEFAULT_PORTS[scheme] else f":{port}"
    return f"{scheme}://{host}{shown}{_without_dots(_PERCENT.sub(_decoded, parts.path))}"


def _decoded(match: re.Match[str]) -> str:
    character = chr(int(match[1], 16))
    return character if character in _UNRESERVED else match[0].upper()


def _without_dots(path: str) -> str:
    """Return a path without dot segments (RFC 3986, section 5.2.4)."""
    if "/." not in path:
        return path or "/"
    kept: list[str] = []
    segments = path.split("/")[1:]
    for place, segment in enumerate(segments):
        if segment == "..":
            if kept:
                kept.pop()
        elif segment != ".":
            kept.append(segment)
        if segment in {".", ".."} and place == len(segments) - 1:
            kept.append("")
    return "/" + "/".join(kept)
