"""The pages for browsers: plain, accessible, and without scripts except one that submits a form by itself.

An operator may replace each template: a file of the same name in the directory of templates comes first.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from token_service.errors import ServiceError
from token_service.wire import oauth_error

BROWSER_HEADERS: Final = {
    "Cache-Control": "no-store",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Headers of every response that a browser shows or follows (RFC 9700, sections 4.2 and 4.16)."""
_PACKAGED: Final = Path(__file__).parent.parent / "pages"


class Pages:
    """Renders the pages."""

    def __init__(self, templates: Path | None = None) -> None:
        """`templates`: a directory whose templates replace those of the package."""
        directories = [_PACKAGED] if templates is None else [templates, _PACKAGED]
        self._environment = jinja2.Environment(
            loader=jinja2.FileSystemLoader(directories), autoescape=True, undefined=jinja2.StrictUndefined
        )

    def error(self, error: ServiceError, _: Request) -> Response:
        """Return the page for an error that no client may be told of."""
        code, status = oauth_error(error)
        return self.page(
            "error.html",
            400 if status == 401 else status,
            error=code,
            description=error.message,
            error_id=error.metadata.get("error_id", ""),
        )

    def logout(self, *, logged_out: bool) -> Response:
        """Return the page that tells the outcome of a logout."""
        return self.page("logout.html", 200 if logged_out else 400, logged_out=logged_out)

    def form_post(self, action: str, fields: Mapping[str, str]) -> Response:
        """Return the page that posts an authorization response (OAuth 2.0 Form Post Response Mode, section 2)."""
        # Browsers apply `form-action` also to where the application redirects from there, which may be another origin.
        schemes = dict.fromkeys((f"{urlsplit(action).scheme}:", "https:"))
        return self.page("form_post.html", 200, form_action=" ".join(schemes), action=action, fields=fields)

    def page(self, name: str, status: int, *, form_action: str = "'self'", **values: Any) -> Response:
        """Return a page. `form_action`: the only place that its forms may be sent to; `values`: those of the template."""
        nonce = secrets.token_urlsafe(16)
        policy = (
            f"default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; "
            f"form-action {form_action}; frame-ancestors 'none'; base-uri 'none'"
        )
        text = self._environment.get_template(name).render(nonce=nonce, **values)
        return HTMLResponse(text, status, {**BROWSER_HEADERS, "Content-Security-Policy": policy})
