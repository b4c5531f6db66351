"""Renders the templates of the console. No page has an inline script or style."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlencode

import jinja2
from starlette.responses import HTMLResponse, Response

from token_service.web.console import formats
from token_service.web.console.static_files import StaticFiles

CONSOLE_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",  # with `no-referrer`, browsers send the origin `null` with forms
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    ),
}
"""Headers of every response of the console."""
_TEMPLATES: Final = Path(__file__).parent / "templates"


class Views:
    """Renders pages and their parts."""

    def __init__(self, base: str, static: StaticFiles, navigation: Sequence[tuple[str, str]]) -> None:
        """`base`: the path of the console; `navigation`: path and title of each page."""
        self._base = base
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(_TEMPLATES),
            autoescape=True,
            undefined=jinja2.StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters.update(formats.FILTERS)
        self._environment.globals.update(
            static=static.url, url=self.url, navigation=navigation, static_version=static.version
        )

    def url(self, path: str = "", /, **query: str | int | None) -> str:
        """Return a URL in the console. Empty values of the query are left out."""
        text = urlencode({name: value for name, value in query.items() if value not in {"", None}})
        where = f"{self._base}/{path}" if path else self._base
        return f"{where}?{text}" if text else where

    def html(self, template: str, status: int = 200, **values: Any) -> Response:
        """Return the response with a rendered template."""
        text = self._environment.get_template(template).render(**values)
        return HTMLResponse(text, status, CONSOLE_HEADERS)
