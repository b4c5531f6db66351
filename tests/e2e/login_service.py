"""A login service of one's own: the pages behind an upstream of the kind `challenge`."""

from __future__ import annotations

import html
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self
from urllib.parse import parse_qsl, urlsplit

import grpc

from tests.support.ports import free_port, release_port
from token_service.v1 import authorization_service_pb2 as pb, authorization_service_pb2_grpc

_TIMEOUT = 60.0
_PAGE = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>Log in</title>
<h1>Log in to {client}</h1>
<form method="post"><input type="hidden" name="login_challenge" value="{challenge}">
<p><label>User <input name="user" value="{hint}"></label></p>
<button name="answer" value="accept">Log in</button> <button name="answer" value="reject">Cancel</button>
</form></html>"""


class LoginService:
    """Serves the login page and answers challenges over gRPC. It believes every user.

    `requests` has what it was asked, `accepts` is what it tells of each user besides the subject.
    """

    def __init__(self) -> None:
        self._port = free_port()
        self._server: ThreadingHTTPServer | None = None
        self.requests: list[pb.GetLoginRequestResponse] = []
        self.accepts: dict[str, Any] = {}
        self._channel: grpc.Channel | None = None
        self.stub: Any = None

    @property
    def url(self) -> str:
        """The login page."""
        return f"http://127.0.0.1:{self._port}/login"

    def connect(self, channel: grpc.Channel) -> None:
        """Answer the challenges of the node at the other end of a channel, and close it at the end."""
        self._channel = channel
        self.stub = authorization_service_pb2_grpc.AuthorizationServiceStub(channel)

    def page(self, challenge: str) -> tuple[str, str]:
        """Return the page for a challenge, or the URL to send the browser to instead."""
        asked = self.stub.GetLoginRequest(
            pb.GetLoginRequestRequest(login_challenge=challenge), timeout=_TIMEOUT
        )
        self.requests.append(asked)
        if "none" in asked.prompts:  # no page may be shown
            return "", self.answer({"login_challenge": challenge, "answer": "reject"})
        texts = {"client": asked.client_name or asked.client_id, "challenge": challenge}
        escaped = {name: html.escape(text) for name, text in {**texts, "hint": asked.login_hint}.items()}
        return _PAGE.format(**escaped), ""

    def answer(self, form: Mapping[str, str]) -> str:
        """Return the URL to send the browser to."""
        challenge = form["login_challenge"]
        if form.get("answer") == "accept":
            accept = pb.AcceptLoginRequestRequest(
                login_challenge=challenge, subject=form["user"], **self.accepts
            )
            return self.stub.AcceptLoginRequest(accept, timeout=_TIMEOUT).redirect_to
        reject = pb.RejectLoginRequestRequest(login_challenge=challenge, reason="the user pressed Cancel")
        return self.stub.RejectLoginRequest(reject, timeout=_TIMEOUT).redirect_to

    def __enter__(self) -> Self:
        service = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                query = dict(parse_qsl(urlsplit(self.path).query))
                if "login_challenge" not in query:
                    self.send_error(404)
                    return
                self._send(*service.page(query["login_challenge"]))

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self._send("", service.answer(dict(parse_qsl(body.decode()))))

            def _send(self, page: str, location: str) -> None:
                content = page.encode()
                self.send_response(303 if location else 200)
                if location:
                    self.send_header("Location", location)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
                """Log nothing: a challenge is part of the URL."""

        self._server = ThreadingHTTPServer(("127.0.0.1", self._port), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
        if self._channel is not None:
            self._channel.close()
        release_port(self._port)
