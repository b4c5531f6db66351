"""All readings of a request path by routers.

An authorization rule protects nothing if the router behind it reads the path differently: `$` in a regular
expression also matches before a final newline, a router may resolve `..`, an encoded slash may or may not separate
segments, and a decoded path may be decoded again.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote, unquote_to_bytes

_USUAL: Final = re.compile(r"/|(?:/[A-Za-z0-9_-]+)+")
"""Paths of which there is one reading. The match saves more than half the time of the middleware."""
_UNCLEAR: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\\\ufffd\ud800-\udfff]")
"""Control characters, line separators, backslashes, and replacements for bytes that are not UTF-8."""
_ENCODED_SLASH: Final = re.compile(rb"%2f", re.IGNORECASE)
_QUERY: Final = re.compile(r"[?#]")
_PARAMETERS: Final = re.compile(r";[^/]*")


def is_plain(path: str) -> bool:
    """Return whether every router reads the same segments in this path."""
    segments = path.split("/")
    return (
        path.startswith("/")
        and _UNCLEAR.search(path) is None
        and "." not in segments
        and ".." not in segments
        and "" not in segments[1:-1]
    )


def readings(scope: Mapping[str, Any]) -> set[str]:
    """The paths within the application that an ASGI scope can be read as; none if one of them is not plain.

    Besides `path` itself these are the path decoded twice, the path cut at a decoded `?` or `#`, where a URL
    that is put together from it is parsed again, and the path without `;parameters`.
    """
    path, root = str(scope["path"]), str(scope.get("root_path", ""))
    if not root and _USUAL.fullmatch(path) and scope.get("raw_path") in {None, path.encode()}:
        return {path}
    within = _within(path, root)
    if within is None or not _agrees(scope.get("raw_path"), path, root):
        return set()
    found = {within, unquote(within)}
    found |= {_QUERY.split(reading, maxsplit=1)[0] for reading in found}
    found |= {_PARAMETERS.sub("", reading) for reading in found}
    return found if all(map(is_plain, found)) else set()


def _within(path: str, root: str) -> str | None:
    """The path within the application, which is mounted at `root`; None if routers would not agree on it."""
    if root.endswith("/"):
        if root != "/":
            return None  # starlette takes such a root for no part of the path, other frameworks do
        root = ""
    return path[len(root) :] or "/" if path == root or path.startswith(f"{root}/") else path


def _agrees(raw: bytes | None, path: str, root: str) -> bool:
    """Return whether a router that reads `raw_path` finds the same path.

    Servers and frameworks disagree on whether `path` and `raw_path` begin with the root.
    """
    if raw is None:
        return True
    raw = raw.partition(b"?")[0]
    if _ENCODED_SLASH.search(raw):
        return False
    try:
        decoded = unquote_to_bytes(raw).decode()
    except UnicodeDecodeError:
        return False
    return decoded in {path, root + path} or path == root + decoded
