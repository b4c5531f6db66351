"""An HTTP token endpoint in front of a fake token service: the client credentials grant with the same switches."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from tests.support.fake_token_service import FakeTokenService
from token_service.errors import ServiceError
from token_service.v1.token_service_pb2 import IssueTokenRequest
from token_service.wire import oauth_error


class TokenEndpoint:
    """Answers `POST /token` with the verdict of `service`. Keeps the requests."""

    def __init__(self, service: FakeTokenService) -> None:
        self.requests: list[tuple[dict[str, list[str]], dict[str, str]]] = []
        """Form and headers of each request."""
        self.scripted: list[tuple[int, dict[str, str], bytes]] = []
        """Answers that the next requests get instead: status, headers, body."""
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"])).decode()
                endpoint.requests.append((parse_qs(body), dict(self.headers.items())))
                status, headers, answer = endpoint._answer(service, body)
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(answer))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(answer)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}/token"

    def _answer(self, service: FakeTokenService, body: str) -> tuple[int, dict[str, str], bytes]:
        if self.scripted:
            return self.scripted.pop(0)
        scopes = parse_qs(body).get("scope", [""])[0].split()
        try:
            issued = service.issue(IssueTokenRequest(scopes=scopes))
        except ServiceError as error:
            return _refusal(error)
        answer = {
            "access_token": issued.access_token,
            "token_type": "Bearer",
            "expires_in": service.access_ttl,
            "scope": " ".join(issued.scopes),
        }
        return 200, {"Content-Type": "application/json"}, json.dumps(answer).encode()


def _refusal(error: ServiceError) -> tuple[int, dict[str, str], bytes]:
    code, status = oauth_error(error)
    answer = {"error": code, "error_description": error.message, "reason": error.reason.value}
    headers = {"Retry-After": str(int(error.retry_after))} if error.retry_after is not None else {}
    return status, headers, json.dumps(answer).encode()
