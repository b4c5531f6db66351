"""The files of the console that browsers keep: scripts and styles, at URLs with a hash of all of them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from token_service.web.edge import HttpEdge

_DIRECTORY: Final = Path(__file__).parent / "static"
_TYPES: Final = {".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_MAX_AGE: Final = 365 * 86400
_KEPT: Final = f"public, max-age={_MAX_AGE}, immutable"
_HEADERS: Final = {
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class StaticFiles:
    """The files in memory. A change of any file changes the URL of all, so a browser never mixes two versions.

    A node of another version, while nodes are replaced, serves its own file for the URL, but no browser keeps that.
    """

    def __init__(self, base: str) -> None:
        """Read the files. `base`: the path of the console."""
        files = {
            path.relative_to(_DIRECTORY).as_posix(): path.read_bytes()
            for path in sorted(_DIRECTORY.rglob("*"))
            if path.suffix in _TYPES
        }
        whole = hashlib.sha256()
        for name, content in files.items():
            whole.update(f"{name}\0{len(content)}\0".encode() + content)
        self.version: Final = whole.hexdigest()[:16]
        self._files = files
        self._path = f"{base}/static"

    def url(self, name: str) -> str:
        """Return the URL of a file. Raises `KeyError` if there is none."""
        if name not in self._files:
            raise KeyError(name)
        return f"{self._path}/{name}?v={self.version}"

    def routes(self, edge: HttpEdge) -> list[Route]:
        """Return a route for each file."""
        return [
            edge.route(f"{self._path}/{name}", None, _Served(name, content, self.version).answer)
            for name, content in self._files.items()
        ]


class _Served:
    def __init__(self, name: str, content: bytes, version: str) -> None:
        self._content = content
        self._query = f"v={version}".encode()
        self._headers = {**_HEADERS, "ETag": f'"{hashlib.sha256(content).hexdigest()[:32]}"'}
        self._type = _TYPES[Path(name).suffix]

    async def answer(self, request: Request) -> Response:
        is_asked_version = request.scope["query_string"] == self._query
        headers = {**self._headers, "Cache-Control": _KEPT if is_asked_version else "no-cache"}
        if self._headers["ETag"] in request.headers.get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(self._content, media_type=self._type, headers=headers)
