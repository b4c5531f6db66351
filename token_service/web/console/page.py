"""The pages of the console."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from token_service.web.console.visit import Handler
from token_service.web.oauth.parameters import MAX_BODY


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """A page: its handlers convert a request, call a use case with the caller, and convert the result.

    The page is at `/console/{path}`. GET never changes anything. A form is posted to an action, which the console calls
    only if the form is one of its own.
    """

    path: str
    """Below the console; empty: the first page."""
    title: str
    """In the navigation and the title of the window."""
    show: Handler
    parts: Mapping[str, Handler] = field(default_factory=dict)
    """`GET /console/{path}/{name}`: parts that htmx replaces, further pages and the data of charts."""
    actions: Mapping[str, Handler] = field(default_factory=dict)
    """`POST /console/{path}/{name}`."""
    max_form: int = MAX_BODY
    """Bytes of a form."""

    def sub(self, name: str) -> str:
        """Return the path of a part or an action below the console."""
        return f"{self.path}/{name}" if self.path else name
