"""A receiver of webhooks in a process of its own, which records what it gets and answers as it is told.

Run as a program, it prints its port.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from collections import defaultdict
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.request import ProxyHandler, Request, build_opener

from standardwebhooks.webhooks import Webhook

HANGS = 0
"""The status of a path whose requests get no answer."""


@dataclass(frozen=True)
class Delivery:
    """A request that the receiver got."""

    headers: dict[str, str]
    body: str

    def verified(self, secret: str) -> dict[str, Any]:
        """Return the payload; fails unless the reference library accepts the signature."""
        payload: dict[str, Any] = Webhook(secret).verify(self.body, self.headers)
        return payload

    @property
    def payload(self) -> dict[str, Any]:
        payload: dict[str, Any] = json.loads(self.body)
        return payload

    @property
    def target(self) -> str:
        """The id of the target of the event."""
        return str(self.payload["data"].get("target", {}).get("id", ""))


class WebhookReceiver:
    """Runs the receiver. Each path has its own status, 204 at first."""

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.webhook_receiver"], stdout=subprocess.PIPE, text=True
        )
        assert self._process.stdout is not None
        self.port = int(self._process.stdout.readline())
        self._open = build_opener(ProxyHandler({})).open
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()

    def url(self, path: str) -> str:
        return f"http://127.0.0.1:{self.port}/{path}"

    def answer(self, path: str, status: int) -> None:
        """Answer further requests for a path with a status."""
        self._ask("PUT", path, str(status).encode())

    def deliveries(self, path: str) -> list[Delivery]:
        """Return the requests for a path, the first one first."""
        return [Delivery(**each) for each in json.loads(self._ask("GET", path))]

    def targets(self, path: str) -> list[str]:
        """Return the ids of the targets of the events that a path got."""
        return [each.target for each in self.deliveries(path)]

    def _ask(self, method: str, path: str, body: bytes | None = None) -> bytes:
        with self._open(Request(self.url(path), body, method=method), timeout=60) as answer:
            content: bytes = answer.read()
        return content


def _serve() -> None:
    statuses: dict[str, int] = defaultdict(lambda: 204)
    received: dict[str, list[dict[str, Any]]] = defaultdict(list)
    forever = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self._body()
            headers = {name.lower(): value for name, value in self.headers.items()}
            received[self.path].append({"headers": headers, "body": body.decode()})
            status = statuses[self.path]
            if status == HANGS:
                forever.wait()
            self.send_response(status)
            if 300 <= status < 400:
                self.send_header("Location", "/inside")
            self.end_headers()

        def do_PUT(self) -> None:
            statuses[self.path] = int(self._body())
            self._reply(b"")

        def do_GET(self) -> None:
            self._reply(json.dumps(received[self.path]).encode())

        def _body(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length", "0")))

        def _reply(self, body: bytes) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    print(server.server_port, flush=True)
    server.serve_forever()


if __name__ == "__main__":
    _serve()
