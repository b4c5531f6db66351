"""The console around a node on stores in memory, visited by operators with chosen permissions."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any, Self

import httpx
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.app.console import console_pages, make_console
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import Permission
from token_service.tokens import strict_json
from token_service.web.app import make_app
from token_service.web.console.history import History
from token_service.web.console.rendering import Views
from token_service.web.console.visit import Operator
from token_service.web.edge import HttpEdge, Refuse
from token_service.web.probes import Probes

ORIGIN = "https://console.example"
EVERYTHING = tuple(Permission)
READER = (Permission.ADMIN_READ,)
_FORM_TOKEN = re.compile(r'"X-Form-Token": "([^"]+)"')


def no_history(node: Node[ManualClock]) -> History:
    """Return the history of a node without metrics."""
    return History(dict, node.clock, "node-1:42")


class ChosenOperator:
    """Identifies every request as one operator."""

    def __init__(self) -> None:
        self.become(EVERYTHING)

    def become(self, permissions: Iterable[Permission], name: str = "olivia") -> None:
        caller = Caller(name, Rights.of(*permissions), kind="operator")
        self.operator = Operator(caller, name, f"session of {name}")

    async def identify(self, request: Request) -> Operator:
        return self.operator

    def origin(self, request: Request) -> str:
        return ORIGIN

    def is_arriving(self, request: Request) -> bool:
        return False

    async def log_out(self, request: Request, response: Response) -> None:
        return None

    def routes(self, edge: HttpEdge, views: Views, refuse: Refuse) -> list[Route]:
        return []


class ConsoleApp:
    """The console of a node. `become` changes the operator; `get` and `post` are those of a browser."""

    def __init__(self, node: Node[ManualClock]) -> None:
        """The node must be started by `start`."""
        self.node, self.clock, self.core = node, node.clock, node.core
        self.access = ChosenOperator()
        self.become = self.access.become
        self.history = no_history(node)
        self.pages = console_pages(node.core, self.history)
        self.edge = HttpEdge()
        self.app = make_app(
            lambda: strict_json.encode({"keys": node.core.keyring.jwks}),
            Probes(readiness=dict, startup=dict, version={}),
            edge=self.edge,
            routes=make_console(node.core, self.access, self.pages).routes(self.edge),
        )
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(self.app, client=("192.0.2.7", 4711)),
            base_url=ORIGIN,
            trust_env=False,
        )

    @classmethod
    async def start(cls, **node: Any) -> Self:
        """Return the console of a new node, with the options of `Node`."""
        return cls(await Node(ManualClock(), **{"max_staleness": 1e12, **node}).start())

    async def close(self) -> None:
        await self.http.aclose()

    async def get(self, path: str = "", *, part: bool = False, **query: str) -> httpx.Response:
        """Return a page, such as `sessions`, or with `part` what htmx gets."""
        headers = {"HX-Request": "true"} if part else {}
        return await self.http.get(url(path), params=query, headers=headers)

    async def form_token(self, path: str = "") -> str:
        """Return the form token of a page."""
        found = _FORM_TOKEN.search((await self.get(path)).text)
        assert found is not None
        return found.group(1)

    async def post(self, path: str, *, page: str = "", **fields: str) -> httpx.Response:
        """Send a form of a page as a browser does. A field `form_token` replaces the one of the page."""
        fields = {"form_token": await self.form_token(page), **fields}
        headers = {"Origin": ORIGIN, "Sec-Fetch-Site": "same-origin"}
        return await self.http.post(url(path), data=fields, headers=headers)


def url(path: str) -> str:
    """Return the path of a page below the console."""
    return f"/console/{path}" if path else "/console"
