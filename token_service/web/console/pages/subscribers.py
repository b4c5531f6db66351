"""The connected validators of all nodes, the ones furthest behind first."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from token_service.core.reports.cluster.subscribers import (
    ClusterSubscribers,
    ConnectedSubscriber,
    SubscriberPage,
    SubscriberQuery,
)
from token_service.web.console.page import Page
from token_service.web.console.visit import Visit

PAGE_SIZE: Final = 100
_LATE: Final = 10.0
"""Seconds without a confirmation from which on a validator that is behind counts as late."""


class SubscribersPage:
    """Lists the validators."""

    def __init__(self, subscribers: ClusterSubscribers) -> None:
        self._subscribers = subscribers

    def page(self) -> Page:
        """Return the page."""
        return Page(path="subscribers", title="Validators", show=self.show, parts={"rows": self.rows})

    async def show(self, visit: Visit) -> Response:
        """Return the page."""
        return visit.page("subscribers.html", page=await self._list(visit), state=state_of)

    async def rows(self, visit: Visit) -> Response:
        """Return the table."""
        return visit.part("subscribers_rows.html", page=await self._list(visit), state=state_of)

    async def _list(self, visit: Visit) -> SubscriberPage:
        query = visit.query
        return await self._subscribers.list(
            visit.caller,
            SubscriberQuery(
                caller=query.get("caller"),
                node_id=query.get("node"),
                behind_only=query.get("behind") == "1",
                page_size=PAGE_SIZE,
                page_token=query.get("page_token"),
            ),
        )


def state_of(each: ConnectedSubscriber) -> tuple[str, str]:
    """Return the kind and the text of the state of a validator."""
    listed = each.listed
    if listed.is_silent:
        return "critical", "silent"
    if each.entries_behind <= 0:
        return "ok", "up to date"
    age = listed.connected_for if listed.confirmation_age is None else listed.confirmation_age
    if age + each.list_age >= _LATE:
        return "warning", "behind"
    return "info", "catching up"
