"""The signing keys on a time line, and the changes of their states."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase
from token_service.core.keys.administration import SigningKeys
from token_service.core.reports.cluster.overview import ClusterOverview
from token_service.errors import InvalidRequestError
from token_service.tokens.algorithms import PUBLIC_KEY_ALGORITHMS
from token_service.web.console.page import Page
from token_service.web.console.pages.key_time_line import WIDTH, time_line
from token_service.web.console.visit import Visit

_ALGORITHMS: Final = tuple(each.value for each in PUBLIC_KEY_ALGORITHMS)
_ROW: Final = 34
"""The height of a key in the picture."""


class KeysPage:
    """Shows the keys. Revoking one is a revocation like others; see `RevocationsPage`."""

    def __init__(self, overview: ClusterOverview, keys: SigningKeys) -> None:
        self._overview = overview
        self._keys = keys

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="keys",
            title="Keys",
            show=self.show,
            parts={"retirement": self.retirement},
            actions={"prepare": self.prepare, "activate": self.activate, "retire": self.retire},
        )

    async def show(self, visit: Visit) -> Response:
        """Return the page."""
        overview = await self._overview.get(visit.caller)
        return visit.page(
            "keys.html",
            entries=overview.keys,
            rotation=overview.facts.rotation,
            picture=time_line(overview.keys, visit.now),
            width=WIDTH,
            row=_ROW,
            algorithms=_ALGORITHMS,
            may_change=visit.may(UseCase.PREPARE_SIGNING_KEY),
        )

    async def retirement(self, visit: Visit) -> Response:
        """Return what the retirement of a key would do, with the button that retires it."""
        key_id = visit.query.get("id")
        found = await self._keys.preview_retirement(visit.caller, key_id)
        return visit.page(
            "key_retirement.html",
            key_id=key_id,
            retirement=found,
            may_change=visit.may(UseCase.RETIRE_SIGNING_KEY),
        )

    async def prepare(self, visit: Visit) -> Response:
        """Make a key and publish it."""
        await self._keys.prepare(visit.caller, visit.form.get("algorithm"), 0)
        return visit.redirect("keys")

    async def activate(self, visit: Visit) -> Response:
        """Let a prepared key sign, after its announce time unless the form forces it."""
        force = visit.form.get("force")
        if force not in {"", "1"}:
            raise InvalidRequestError.of("force", "is neither empty nor 1")
        await self._keys.activate(visit.caller, visit.form.get("id"), force=bool(force))
        return visit.redirect("keys")

    async def retire(self, visit: Visit) -> Response:
        """Stop a key from signing."""
        await self._keys.retire(visit.caller, visit.form.get("id"))
        return visit.redirect("keys")
