"""The console of a node, its code flow, a login service, and a browser that keeps cookies and comes from other sites."""

from __future__ import annotations

import re
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import httpx

from tests.unit.core.node import ISSUER
from tests.unit.web.console.console_app import no_history
from tests.unit.web.oauth.browser_login import Login
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.app.console import code_flow_access, console_pages, make_console
from token_service.core.access.operators import parse_operators
from token_service.core.clients.client import AUTHORIZATION_CODE, REFRESH_TOKEN
from token_service.tokens import strict_json
from token_service.web.app import make_app
from token_service.web.probes import Probes

CLIENT = "console"
CALLBACK = f"{ISSUER}/console/callback"
SCOPES = ("openid", "admin.read", "admin.write", "revoke")
OPERATORS = {
    "on-call": {"subjects": ["alice"], "permissions": ["admin.read", "revoke"]},
    "platform": {"groups": ["platform"], "permissions": ["admin"]},
}
_FORM_TOKEN = re.compile(r'name="form_token" value="([^"]+)"')


class LoginScene:
    """The parts. `operators` may be replaced at any time."""

    def __init__(self, app: OAuthApp) -> None:
        self.oauth, self.node, self.clock, self.core = app, app.node, app.clock, app.node.core
        self.operators = parse_operators({"operators": OPERATORS})
        self.login = Login(app)
        access = code_flow_access(self.core, CLIENT, lambda: self.operators)
        console = make_console(self.core, access, console_pages(self.core, no_history(self.node)))
        self.app = make_app(
            lambda: strict_json.encode({"keys": self.core.keyring.jwks}),
            Probes(readiness=dict, startup=dict, version={}),
            edge=app.edge,
            routes=[*app.app.routes, *console.routes(app.edge)],  # type: ignore[list-item]  # all are routes
        )

    @classmethod
    async def start(cls, **client: Any) -> Self:
        app = await OAuthApp.start()
        await app.register_public(
            CLIENT,
            **{
                "grant_types": (AUTHORIZATION_CODE, REFRESH_TOKEN),
                "redirect_uris": (CALLBACK,),
                "scopes": SCOPES,
                "first_party": True,
                **client,
            },
        )
        return cls(app)

    def browser(self) -> OperatorBrowser:
        return OperatorBrowser(self)

    async def close(self) -> None:
        await self.oauth.close()


class OperatorBrowser:
    """A browser: it has cookies of its own, and sends no strict cookie with a navigation from another site."""

    def __init__(self, scene: LoginScene) -> None:
        self.scene = scene
        self.http = httpx.AsyncClient(
            transport=httpx.ASGITransport(scene.app, client=("192.0.2.7", 4711)),
            base_url=ISSUER,
            trust_env=False,
        )

    async def get(self, path: str, *, site: str = "same-origin", **headers: str) -> httpx.Response:
        request = self.http.build_request(
            "GET",
            path,
            headers={"Sec-Fetch-Site": site, **{n.replace("_", "-"): v for n, v in headers.items()}},
        )
        if site == "cross-site" and "cookie" in request.headers:
            lax = [
                each
                for each in request.headers["cookie"].split("; ")
                if not each.startswith("__Host-console=")
            ]
            request.headers["cookie"] = "; ".join(lax)
        return await self.http.send(request)

    async def begin(self, path: str = "/console") -> tuple[str, str]:
        """Open a page without a login; return the challenge for the login service, and the URL of /authorize."""
        answer = await self.get(path)
        assert answer.status_code == 303, answer.text
        answer = await self.get(answer.headers["location"])
        authorize = answer.headers["location"]
        answer = await self.get(authorize)
        assert answer.status_code == 303, answer.text
        return dict(parse_qsl(urlsplit(answer.headers["location"]).query))["login_challenge"], authorize

    async def callback_url(self, subject: str = "alice", path: str = "/console", **accept: Any) -> str:
        """Log in at the login service, and return the URL of the console's callback."""
        challenge, _ = await self.begin(path)
        url = await self.scene.login.accept(challenge, subject, **accept)
        answer = await self.get(url, site="cross-site")
        assert answer.status_code == 303, answer.text
        url = answer.headers["location"]
        assert url.startswith(CALLBACK)
        return str(url)

    async def log_in(self, subject: str = "alice", path: str = "/console", **accept: Any) -> httpx.Response:
        """Log in; return the response to the callback, which comes from the login service's site."""
        return await self.get(await self.callback_url(subject, path, **accept), site="cross-site")

    async def form_token(self, path: str = "/console") -> str:
        found = _FORM_TOKEN.search((await self.get(path)).text)
        assert found is not None
        return found.group(1)

    async def post(self, path: str, *, site: str = "same-origin", **fields: str) -> httpx.Response:
        headers = {
            "Origin": ISSUER if site == "same-origin" else "https://evil.example",
            "Sec-Fetch-Site": site,
        }
        return await self.http.post(path, data=fields, headers=headers)

    @property
    def cookies(self) -> dict[str, str]:
        return {each.name: str(each.value) for each in self.http.cookies.jar}
