"""A browser as far as cookies, redirects and fetch metadata go, in front of an ASGI application."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import httpx

PUBLIC_URL: Final = "https://app.test"


class Browser:
    """One browser. It keeps everything that it receives from the application."""

    def __init__(self, app: Any, origin: str = PUBLIC_URL) -> None:
        self.app = app
        self.origin = origin
        self.client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=origin, timeout=60)
        self.received: list[str] = []

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.client.aclose()

    @property
    def cookies(self) -> dict[str, str]:
        return {cookie.name: str(cookie.value) for cookie in self.client.cookies.jar}

    @property
    def session_cookie(self) -> str | None:
        return self.cookies.get("__Host-session")

    async def navigate(self, url: str, *, site: str = "same-origin") -> httpx.Response:
        """Follow a link."""
        return await self._send("GET", url, {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Site": site})

    async def fetch(self, path: str, method: str = "GET", **headers: str) -> httpx.Response:
        """Send a request as a script of the application does."""
        own = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Site": "same-origin", "Accept": "application/json"}
        if method != "GET":
            own["Origin"] = self.origin
        return await self._send(
            method, path, {**own, **{name.replace("_", "-"): v for name, v in headers.items()}}
        )

    async def begin_login(self, return_to: str = "/") -> str:
        """Begin a login, and return the URL of the provider."""
        response = await self.navigate(f"/auth/login?return_to={quote(return_to, safe='')}")
        assert response.status_code == 303, response.text
        return response.headers["Location"]

    async def at_provider(self, url: str) -> str:
        """Log in at the provider, and return the URL of the callback."""
        async with httpx.AsyncClient(trust_env=False, timeout=60) as provider:
            response = await provider.get(url)
        assert response.status_code == 303, (response.status_code, response.text)
        return response.headers["Location"]

    async def log_in(self, return_to: str = "/") -> httpx.Response:
        """Log in, and return the response to the callback."""
        callback = await self.at_provider(await self.begin_login(return_to))
        return await self.navigate(callback, site="cross-site")

    async def _send(self, method: str, url: str, headers: dict[str, str]) -> httpx.Response:
        response = await self.client.request(method, url, headers=headers)
        self.received.append(f"{response.status_code} {response.headers} {response.text}")
        return response
