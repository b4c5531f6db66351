"""The audit trail: the search, its verification, and the events that revoked a target."""

from __future__ import annotations

import asyncio
from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase, admit
from token_service.core.events.event import Action
from token_service.core.events.store import AuditFilter
from token_service.core.reports.audit import AuditReports
from token_service.errors import DeadlineExceededError, OverloadedError
from token_service.web.console.page import Page
from token_service.web.console.pages.audit_rows import ShownEvent
from token_service.web.console.pages.choices import TARGETS, choice
from token_service.web.console.pages.times import time_of
from token_service.web.console.visit import Visit

PAGE_SIZE: Final = 50
VERIFY_WITHIN: Final = 15.0
"""Seconds of a verification. Shorter than the deadline of a request, so that the page can say what to do instead."""
_RETRY_AFTER: Final = 5.0
_COMMAND: Final = "`token-service audit verify`"


class AuditPages:
    """Shows the audit trail."""

    def __init__(self, reports: AuditReports, verify_within: float = VERIFY_WITHIN) -> None:
        """`verify_within`: seconds of a verification."""
        self._reports = reports
        self._verify_within = verify_within
        self._is_verifying = False

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="audit",
            title="Audit",
            show=self.show,
            parts={"explanation": self.explanation},
            actions={"verify": self.verify},
        )

    async def show(self, visit: Visit) -> Response:
        """Return the events that match the filters."""
        query = visit.query
        where = AuditFilter(
            actor=query.get("actor"),
            subject=query.get("subject"),
            session_id=query.get("session_id"),
            client_id=query.get("client_id"),
            actions=(query.get("action"),) if query.get("action") else (),
            since=time_of(query, "since"),
            until=time_of(query, "until"),
        )
        page = await self._reports.list(visit.caller, where, PAGE_SIZE, query.get("page_token"))
        return visit.page(
            "audit.html",
            events=[ShownEvent(row) for row in page.rows],
            next_page_token=page.next_page_token,
            actions=sorted(each.value for each in Action),
            verify_within=self._verify_within,
        )

    async def verify(self, visit: Visit) -> Response:
        """Verify the whole trail. At most one verification runs in a process."""
        admit(visit.caller, UseCase.VERIFY_AUDIT_TRAIL)
        if self._is_verifying:
            raise OverloadedError(
                "another verification of the audit trail is running; try again", retry_after=_RETRY_AFTER
            )
        self._is_verifying = True
        try:
            async with asyncio.timeout(self._verify_within):
                found = await self._reports.verify(visit.caller)
        except TimeoutError:
            raise DeadlineExceededError(
                f"the audit trail is too large to be verified within {self._verify_within:.0f} seconds; "
                f"run {_COMMAND} instead"
            ) from None
        finally:
            self._is_verifying = False
        return visit.page("audit_verification.html", found=found)

    async def explanation(self, visit: Visit) -> Response:
        """Return the events that revoked a target, and when the validators had each."""
        admit(visit.caller, UseCase.EXPLAIN_REVOCATION)  # the form is of use only with its result
        query = visit.query
        name, value = query.get("target"), query.get("value")
        found = None
        if name:
            found = await self._reports.explain(visit.caller, choice(TARGETS, "target", name), value)
        return visit.page(
            "audit_explanation.html",
            explanations=None if found is None else [(ShownEvent(each.row), each.arrivals) for each in found],
            targets=TARGETS,
            target=name or "session",
            value=value,
        )
