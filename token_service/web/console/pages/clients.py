"""The registered clients: their settings, their secrets, and the changes of their states."""

from __future__ import annotations

from typing import Final

from starlette.responses import Response

from token_service.core.access.gate import UseCase
from token_service.core.administration.clients import DEFAULT_OVERLAP, MAX_OVERLAP, ClientAdministration
from token_service.core.clients.client import AuthMethod
from token_service.core.policies.policy import DAY, HOUR
from token_service.core.reports.previews import RevocationPreviews
from token_service.core.revocation.commands import RevokeCommand
from token_service.errors import InvalidRequestError
from token_service.tokens.revocation import RevocationTarget
from token_service.web.console.page import Page
from token_service.web.console.pages.client_settings import settings_of
from token_service.web.console.visit import Visit

PAGE_SIZE: Final = 50
OVERLAPS: Final = (0.0, HOUR, DEFAULT_OVERLAP, 7 * DAY, MAX_OVERLAP)
"""Choices of the time for which a replaced secret stays live."""
LIFETIMES: Final = (90 * DAY, 365 * DAY)
"""Choices of the lifetime of a new secret, besides an unlimited one."""


class ClientsPage:
    """Lists the clients, shows one, and disables, enables it or replaces its secret.

    Each form has the etag of the client that its page showed. A form that is sent again, or after another change, changes
    nothing.
    """

    def __init__(self, clients: ClientAdministration, previews: RevocationPreviews) -> None:
        self._clients = clients
        self._previews = previews

    def page(self) -> Page:
        """Return the page."""
        return Page(
            path="clients",
            title="Clients",
            show=self.show,
            parts={"client": self.client, "disabling": self.disabling},
            actions={"disable": self.disable, "enable": self.enable, "rotate": self.rotate},
        )

    async def show(self, visit: Visit) -> Response:
        """Return the list."""
        page = await self._clients.list(visit.caller, PAGE_SIZE, visit.query.get("page_token"))
        return visit.page("clients.html", page=page)

    async def client(self, visit: Visit) -> Response:
        """Return one client. The values of its secrets are not known to the service."""
        client = await self._clients.get(visit.caller, visit.query.get("id"))
        return visit.page(
            "client.html",
            client=client,
            settings=settings_of(client),
            has_secrets=client.token_endpoint_auth_method is AuthMethod.CLIENT_SECRET_BASIC,
            overlaps=OVERLAPS,
            lifetimes=LIFETIMES,
            default_overlap=DEFAULT_OVERLAP,
            may_change=visit.may(UseCase.DISABLE_CLIENT),
        )

    async def disabling(self, visit: Visit) -> Response:
        """Return what disabling a client would reach, with the form that disables it."""
        client = await self._clients.get(visit.caller, visit.query.get("id"))
        command = RevokeCommand(target=RevocationTarget.CLIENT, value=client.client_id)
        return visit.page(
            "client_disabling.html",
            client=client,
            preview=await self._previews.preview(visit.caller, command, visit.now),
            may_change=visit.may(UseCase.DISABLE_CLIENT),
        )

    async def disable(self, visit: Visit) -> Response:
        """Disable a client and revoke its tokens, and lead to the wait for the validators."""
        form = visit.form
        ended = await self._clients.disable(
            visit.caller, form.get("id"), visit.now, etag=form.required("etag"), comment=form.get("comment")
        )
        return visit.redirect("revocations/wait", cursor=str(ended.cursor))

    async def enable(self, visit: Visit) -> Response:
        """Let a disabled client get tokens again."""
        form = visit.form
        client = await self._clients.enable(
            visit.caller, form.get("id"), visit.now, etag=form.required("etag")
        )
        return visit.redirect("clients/client", id=client.client_id)

    async def rotate(self, visit: Visit) -> Response:
        """Make another secret and show it, this one time, on the page of the answer."""
        form = visit.form
        overlap = _seconds(visit, "overlap", OVERLAPS)
        lifetime = _seconds(visit, "lifetime", LIFETIMES) if form.get("lifetime") else None
        made = await self._clients.rotate_secret(
            visit.caller,
            form.get("id"),
            visit.now,
            etag=form.required("etag"),
            overlap=overlap,
            secret_ttl=lifetime,
        )
        assert made.secret is not None
        return visit.page(
            "client_secret.html",
            client=made.client,
            secret=made.secret.reveal().decode(),
            overlap=overlap,
            expire_time=None if lifetime is None else visit.now + lifetime,
        )


def _seconds(visit: Visit, field: str, allowed: tuple[float, ...]) -> float:
    """Return one of the choices of a form. Raises `InvalidRequestError` for another text."""
    choices = {f"{seconds:.0f}": seconds for seconds in allowed}
    try:
        return choices[visit.form.required(field)]
    except KeyError:
        raise InvalidRequestError.of(field, f"is none of {', '.join(choices)} seconds") from None
