"""The revocations in force, and the way to a new one: the form, what it would reach, and the wait for the validators."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase, admit
from token_service.core.reports.cluster.arrivals import ClusterArrivals
from token_service.core.reports.previews import RevocationPreviews
from token_service.core.reports.revocations import LiveRevocations, RevocationPage
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.entries import EntryFilter
from token_service.core.revocation.revoker import Revoker
from token_service.errors import InvalidRequestError
from token_service.tokens.revocation import RevocationReason
from token_service.web.console.page import Page
from token_service.web.console.pages.choices import REASONS, TARGETS, choice
from token_service.web.console.visit import Visit

PAGE_SIZE: Final = 50
WAIT: Final = 1.0
"""Seconds that the form itself waits for the validators; most have confirmed by then."""
_TOKEN: Final = "token"
"""A target of the form: the token itself."""
_EVERYTHING: Final = "everything"


class RevocationsPage:
    """Lists the revocations and makes new ones.

    A revocation takes three steps: the form, the preview with the button that revokes, and the live wait. Form and preview
    are posted, so that a token never is in a URL.
    """

    def __init__(
        self,
        revocations: LiveRevocations,
        previews: RevocationPreviews,
        revoker: Revoker,
        arrivals: ClusterArrivals,
    ) -> None:
        self._revocations = revocations
        self._previews = previews
        self._revoker = revoker
        self._arrivals = arrivals

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="revocations",
            title="Revocations",
            show=self.show,
            parts={"new": self.new, "wait": self.wait, "wait/state": self.wait_state},
            actions={"preview": self.preview, "revoke": self.revoke},
        )

    async def show(self, visit: Visit) -> Response:
        """Return the list."""
        return visit.page("revocations.html", page=await self._list(visit), targets=TARGETS, reasons=REASONS)

    async def new(self, visit: Visit) -> Response:
        """Return the form, filled in with the target of the link that led to it."""
        admit(visit.caller, UseCase.PREVIEW_REVOCATION)  # the form is of use only with its next step
        query = visit.query
        return visit.page(
            "revocation_form.html",
            targets=[*TARGETS, _TOKEN],
            reasons=REASONS,
            target=query.get("target") or "session",
            value=query.get("value"),
        )

    async def preview(self, visit: Visit) -> Response:
        """Return what the revocation of the form would reach, with the form that carries it out."""
        command = _command(visit)
        found = await self._previews.preview(visit.caller, command, visit.now)
        return visit.page(
            "revocation_preview.html",
            preview=found,
            form=visit.form,
            must_confirm=_EVERYTHING if command.target is TARGETS[_EVERYTHING] else "",
            may_revoke=visit.may(UseCase.REVOKE_TOKEN),
        )

    async def revoke(self, visit: Visit) -> Response:
        """Carry out the revocation of the form, and lead to the wait for the validators."""
        command = _command(visit, wait=WAIT)
        if command.target is TARGETS[_EVERYTHING] and visit.form.get("confirmation") != _EVERYTHING:
            raise InvalidRequestError.of("confirmation", f"must be the word {_EVERYTHING}")
        outcome = await self._revoker.revoke(visit.caller, command, visit.now)
        return visit.redirect("revocations/wait", cursor=str(outcome.cursor))

    async def wait(self, visit: Visit) -> Response:
        """Return the page that shows how many validators have confirmed.

        It names no target: the URL could name another one than the entry at its cursor.
        """
        cursor = visit.query.get("cursor")
        arrival = await self._arrivals.get(visit.caller, cursor)
        return visit.page("revocation_wait.html", cursor=cursor, arrival=arrival)

    async def wait_state(self, visit: Visit) -> Response:
        """Return the part with the counts. It asks for itself again until all have confirmed."""
        cursor = visit.query.get("cursor")
        arrival = await self._arrivals.get(visit.caller, cursor)
        return visit.part("revocation_wait_state.html", cursor=cursor, arrival=arrival)

    async def _list(self, visit: Visit) -> RevocationPage:
        query = visit.query
        target, reason = query.get("target"), query.get("reason")
        where = EntryFilter(
            target=choice(TARGETS, "target", target) if target else None,
            value=query.get("value"),
            reason=choice(REASONS, "reason", reason) if reason else RevocationReason.UNSPECIFIED,
        )
        return await self._revocations.list(
            visit.caller, where, PAGE_SIZE, query.get("page_token"), visit.now
        )


def _command(visit: Visit, wait: float | None = None) -> RevokeCommand:
    """Return the command of a form. Raises `InvalidRequestError`."""
    form = visit.form
    reason = choice(REASONS, "reason", form.get("reason") or "unspecified")
    comment, value = form.get("comment"), form.get("value")
    if form.get("target") == _TOKEN:
        return RevokeCommand(token=form.required("value"), reason=reason, comment=comment, wait=wait)
    target = choice(TARGETS, "target", form.required("target"))
    if target is TARGETS[_EVERYTHING]:
        value = ""
    return RevokeCommand(target=target, value=value, reason=reason, comment=comment, wait=wait)
