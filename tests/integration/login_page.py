"""The programs of docs/login.md, and a browser for them."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from http.server import ThreadingHTTPServer
from typing import Any
from urllib.parse import urljoin

import httpx

from tests.integration.tour import DOCS, section

TEXT = (DOCS / "login.md").read_text()
REDIRECT_URI = "http://127.0.0.1:9000/cb"
_TIMEOUT = 60


def programs(**replacements: str) -> list[str]:
    """Return the programs of the page, with other addresses."""
    start, end = section(TEXT, "login")
    code = re.findall(r"^```python\n(.*?)^```$", TEXT[start:end], re.MULTILINE | re.DOTALL)
    for old, new in replacements.items():
        code = [each.replace(old, new) for each in code]
    return code


@contextmanager
def login_service(grpc_address: str, port: int) -> Iterator[None]:
    """Run the login service of the page."""
    service, *_ = programs(**{"127.0.0.1:50051": grpc_address})
    namespace: dict[str, Any] = {"__name__": "login_service"}
    exec(compile(service, "login_service.py", "exec"), namespace)
    server = ThreadingHTTPServer(("127.0.0.1", port), namespace["LoginService"])
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def client(issuer: str, client_id: str) -> dict[str, Any]:
    """Return the functions of the client of the page."""
    _, *parts = programs(**{"http://127.0.0.1:8080": issuer, '"shop"': repr(client_id)})
    namespace: dict[str, Any] = {"__name__": "client"}
    for part in parts:
        exec(compile(part, "client.py", "exec"), namespace)
    return namespace


class Browser:
    """Follows redirections until the client, with cookies, and fills in the form of the login service."""

    def __init__(self) -> None:
        self._http = httpx.Client(trust_env=False, timeout=_TIMEOUT)
        self.shown: dict[str, str] = {}
        """The values in the last form."""

    def log_in(
        self, url: str, user: str = "alice", password: str = "wonderland", *, finish: bool = True
    ) -> str:
        """Return the URL of the client that the browser ends up at; without `finish`, that of the callback."""
        answer = self._http.get(url)
        while True:
            if answer.status_code == 303:
                url = urljoin(str(answer.url), answer.headers["location"])
                if url.startswith(REDIRECT_URI) or (not finish and "/callback/" in url):
                    return url
                answer = self._http.get(url)
                continue
            assert answer.status_code == 200, answer.text
            self.shown = _Inputs(answer.text).values
            form = self.shown | {"user": user, "password": password}
            answer = self._http.post(answer.url, data=form)


class _Inputs(HTMLParser):
    def __init__(self, page: str) -> None:
        super().__init__()
        self.values: dict[str, str] = {}
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        if tag == "input" and found.get("name"):
            self.values[str(found["name"])] = found.get("value") or ""
