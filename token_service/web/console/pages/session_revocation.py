"""The revocation of all sessions that meet conditions: the form, the count, and the parts one after another."""

from __future__ import annotations

from typing import Any, Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase, admit
from token_service.core.revocation.bulk import BulkRevocation, RevokeSessionsCommand
from token_service.core.sessions.selection import SessionSelection
from token_service.errors import InvalidRequestError
from token_service.web.console.pages.choices import REASONS, choice
from token_service.web.console.pages.times import time_of
from token_service.web.console.visit import Visit
from token_service.web.oauth.parameters import Parameters

FIELDS: Final = ("subject", "client_id", "device_id", "upstream")
TIMES: Final = ("created_after", "created_before", "last_used_before")
_KEPT: Final = (*FIELDS, *TIMES, "reason", "comment")
"""The fields that each step sends to the next one."""
_MAX_NUMBER: Final = 10**12


class SessionRevocation:
    """Counts and revokes the sessions of a form.

    One request revokes one part, so that none runs long. The answer has the form for the next part, which console pages
    with JavaScript send at once. A part that was sent twice revokes nothing twice.
    """

    def __init__(self, bulk: BulkRevocation) -> None:
        self._bulk = bulk

    async def select(self, visit: Visit) -> Response:
        """Return the form with the conditions."""
        admit(visit.caller, UseCase.COUNT_SESSIONS)  # the form is of use only with its next step
        return visit.page("sessions_select.html", fields=FIELDS, times=TIMES, reasons=REASONS)

    async def count(self, visit: Visit) -> Response:
        """Return the number of sessions that the form selects, with the form that revokes them."""
        reach = await self._bulk.count(visit.caller, _selection(visit.form), visit.now)
        return visit.page(
            "sessions_count.html",
            reach=reach,
            form=visit.form,
            kept=_KEPT,
            conditions=[(name, visit.form.get(name)) for name in (*FIELDS, *TIMES) if visit.form.get(name)],
            may_revoke=visit.may(UseCase.REVOKE_SESSIONS),
        )

    async def revoke(self, visit: Visit) -> Response:
        """Revoke the next part of the sessions. Return the progress with the form for the rest."""
        form = visit.form
        revoked = await self._bulk.revoke(
            visit.caller,
            RevokeSessionsCommand(
                selection=_selection(form),
                reason=choice(REASONS, "reason", form.get("reason") or "unspecified"),
                comment=form.get("comment"),
                page_token=form.get("page_token"),
            ),
            visit.now,
        )
        done = _number(form, "done") + revoked.sessions
        values: dict[str, Any] = {
            "done": done,
            "total": max(done, _number(form, "total")),
            "next": revoked.next_page_token,
            "cursor": "" if revoked.cursor is None else str(revoked.cursor),
            "form": form,
            "kept": _KEPT,
        }
        if visit.is_part:
            return visit.part("sessions_progress_state.html", **values)
        return visit.page("sessions_progress.html", **values)


def _selection(form: Parameters) -> SessionSelection:
    """Return the selection of a form. Raises `InvalidRequestError`."""
    conditions: dict[str, Any] = {name: form.get(name) for name in FIELDS}
    conditions |= {name: time_of(form, name) for name in TIMES}
    return SessionSelection(**conditions)


def _number(form: Parameters, name: str) -> int:
    """Return a count that the page sent to itself."""
    text = form.get(name) or "0"
    if not (text.isascii() and text.isdigit()) or len(text) > 12 or int(text) > _MAX_NUMBER:
        raise InvalidRequestError.of(name, "is no count")
    return int(text)
