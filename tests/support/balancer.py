"""A load balancer for HTTP that sends each request to the next node."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http.client import HTTPConnection, HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from types import TracebackType
from typing import Any, Self

_TIMEOUT = 60
_HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length"})


class Balancer:
    """Sends the n-th request to the n-th node, round and round; to another one if that takes no connection.

    A request whose node ends before it has answered gets a 502: a balancer can't know whether to repeat it.
    """

    def __init__(self, port: int) -> None:
        """`nodes` must be set before the first request."""
        self.nodes: Sequence[str] = ()
        """HTTP addresses."""
        self.sent: list[tuple[str, str]] = []
        """Path, without the query, and node of each request."""
        self.url = f"http://127.0.0.1:{port}"
        self._numbers = count()
        balancer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                balancer._forward(self)

            def do_POST(self) -> None:
                balancer._forward(self)

            def log_request(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def _forward(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("Content-Length", "0")))
        headers = {name: value for name, value in request.headers.items() if name.lower() not in _HOP_BY_HOP}
        first = next(self._numbers)
        for step in range(len(self.nodes)):
            node = self.nodes[(first + step) % len(self.nodes)]
            connection = HTTPConnection(node, timeout=_TIMEOUT)
            try:
                connection.connect()
            except OSError:
                continue
            self.sent.append((request.path.partition("?")[0], node))
            try:
                connection.request(request.command, request.path, body, headers)
                answer = connection.getresponse()
                content = answer.read()
            except (OSError, HTTPException):
                break
            finally:
                connection.close()
            request.send_response(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in _HOP_BY_HOP:
                    request.send_header(name, value)
            request.send_header("Content-Length", str(len(content)))
            request.end_headers()
            request.wfile.write(content)
            return
        request.send_error(502)
