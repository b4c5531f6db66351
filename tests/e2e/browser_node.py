"""A node for browser flows: HTTPS with its own authority, and a login service as its upstream."""

from __future__ import annotations

import asyncio
import html
import re
import ssl
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self
from urllib.parse import urlsplit

import grpc
import httpx

from tests.e2e.login_service import LoginService
from tests.integration.calls import STRONG, TIMEOUT, Api
from tests.integration.oauth.node import OAuthNode
from tests.support.certificates import Authority
from token_service.v1 import session_service_pb2

_POLICY = """
[upstreams.inhouse]
kind = "challenge"
url = "{url}"
"""


class BrowserNode(OAuthNode):
    """A node at https://localhost with a `LoginService`.

    `authority` signs its certificate and those of other servers. `ca_file` has the certificate of the authority.
    """

    def __init__(self, env: Mapping[str, str] | None = None, policy: str = "", **kwargs: Any) -> None:
        self.authority = Authority()
        self.login = LoginService()
        self.credentials = grpc.ssl_channel_credentials(self.authority.certificate)
        super().__init__(env=env, **kwargs)
        directory = self._directory()
        own = self.authority.server()
        self.ca_file = _write(directory / "ca.pem", self.authority.certificate)
        self._settings = {
            **self._settings,
            "TOKEN_SERVICE_ISSUER": self.http_url,
            "TOKEN_SERVICE_HTTP_TLS": "true",
            "TOKEN_SERVICE_TLS_CERT_FILE": str(_write(directory / "cert.pem", own.certificate)),
            "TOKEN_SERVICE_TLS_KEY_FILE": str(_write(directory / "key.pem", own.key)),
            "TOKEN_SERVICE_POLICY_FILE": str(
                _write(directory / "policy.toml", (_POLICY.format(url=self.login.url) + policy).encode())
            ),
            # Applications of the tests are on loopback, with certificates of the same authority.
            "SSL_CERT_FILE": str(self.ca_file),
            "TOKEN_SERVICE_ALLOW_PRIVATE_LOGOUT_URI": "true",
            **(env or {}),
        }

    @property
    def http_url(self) -> str:
        """Base URL of the HTTP edge. Its host is another site than those at 127.0.0.1."""
        return f"https://localhost:{self.http_address.rsplit(':', 1)[1]}"

    def api(self) -> Api:
        """Return a connection to the node."""
        return Api(self.grpc_address, self.credentials)

    def revoke(self, session_id: str) -> None:
        """Revoke a session, as an operator does."""

        async def call() -> None:
            async with self.api() as api:
                await api.revoke(session_id=session_id)

        asyncio.run(call())

    def why(self, token: str) -> str:
        """Return why the service holds a token invalid; empty: it is valid."""

        async def call() -> str:
            async with self.api() as api:
                return await api.why(token, consistency=STRONG)

        return asyncio.run(call())

    def sessions(self, client_id: str) -> list[str]:
        """Return the live sessions of a client, the newest first."""
        request = session_service_pb2.ListSessionsRequest(client_id=client_id, active_only=True)

        async def call() -> list[str]:
            async with self.api() as api:
                listed = await api.sessions.ListSessions(request, timeout=TIMEOUT)
                return [each.session_id for each in listed.sessions]

        return asyncio.run(call())

    def browser(self) -> httpx.Client:
        """Return a browser with cookies of its own that follows no redirection by itself."""
        tls = ssl.create_default_context(cafile=str(self.ca_file))
        return httpx.Client(verify=tls, trust_env=False, timeout=60)

    def start(self, *, wait: bool = True) -> None:
        """Start the node, and the login service before it."""
        super().start(wait=wait)
        assert self.credentials is not None
        self.login.connect(grpc.secure_channel(self.grpc_address, self.credentials))

    def __enter__(self) -> Self:
        self.login.__enter__()
        super().__enter__()
        return self

    def close(self) -> None:
        """Stop both."""
        self.login.__exit__(None, None, None)
        super().close()


def log_in(browser: httpx.Client, url: str, until: str, user: str = "alice", answer: str = "accept") -> str:
    """Follow a browser from `url` through the login page to a URL that begins with `until`, and return that."""
    end = _follow(browser, url, until, user, answer)
    assert isinstance(end, str), end.text
    return end


def log_in_to_page(browser: httpx.Client, url: str, user: str = "alice") -> httpx.Response:
    """Follow a browser from `url` through the login page, and return the page at the end."""
    end = _follow(browser, url, "", user, "accept")
    assert not isinstance(end, str)
    return end


def _follow(browser: httpx.Client, url: str, until: str, user: str, answer: str) -> httpx.Response | str:
    for _ in range(20):
        if until and url.startswith(until):
            return url
        response = browser.get(url)
        if 'name="login_challenge"' in response.text:
            form = {**hidden(response.text), "user": user, "answer": answer}
            response = browser.post(url, data=form)
        if response.next_request is None:
            return response
        url = str(response.next_request.url)
    raise AssertionError(f"no end of redirections, at {urlsplit(url)._replace(query='').geturl()}")


def hidden(page: str) -> dict[str, str]:
    """Return the hidden fields of the form of a page."""
    fields = re.findall(r'<input type="hidden" name="([^"]*)" value="([^"]*)">', page)
    return {name: html.unescape(value) for name, value in fields}


def _write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path
