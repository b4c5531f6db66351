"""The sessions: a search, and one session with its origin, its end and its limits."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase, admit
from token_service.core.sessions.browsing import SessionPage, Sessions
from token_service.core.sessions.store import SessionFilter
from token_service.web.console.page import Page
from token_service.web.console.pages.choices import choice
from token_service.web.console.pages.session_revocation import SessionRevocation
from token_service.web.console.visit import Visit

PAGE_SIZE: Final = 50
OWNERS: Final = {each.value: each for each in SessionFilter}
"""What sessions are searched by."""
_EMPTY: Final = SessionPage((), "")


class SessionsPage:
    """Finds sessions. Nothing is listed before the operator names an owner: there may be millions."""

    def __init__(self, sessions: Sessions, revocation: SessionRevocation) -> None:
        self._sessions = sessions
        self._revocation = revocation

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="sessions",
            title="Sessions",
            show=self.show,
            parts={"session": self.session, "select": self._revocation.select},
            actions={"count": self._revocation.count, "revoke": self._revocation.revoke},
        )

    async def show(self, visit: Visit) -> Response:
        """Return the search and what it found."""
        return visit.page("sessions.html", page=await self._search(visit), owners=OWNERS)

    async def session(self, visit: Visit) -> Response:
        """Return one session, live or not."""
        details = await self._sessions.get(visit.caller, visit.query.get("id"))
        return visit.page("session.html", details=details, session=details.session, end=details.end())

    async def _search(self, visit: Visit) -> SessionPage:
        query = visit.query
        by = choice(OWNERS, "by", query.get("by") or SessionFilter.SUBJECT.value)
        if not query.get("value"):
            admit(visit.caller, UseCase.LIST_SESSIONS)  # the form is of use only with its result
            return _EMPTY
        return await self._sessions.list(
            visit.caller,
            by,
            query.get("value"),
            live_at=None if query.get("ended") == "1" else visit.now,
            page_size=PAGE_SIZE,
            page_token=query.get("page_token"),
        )
