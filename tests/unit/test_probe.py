from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from tests.support.certificates import Authority
from token_service.probe import probe

HTTP = "TOKEN_SERVICE_HTTP_ADDRESS"
TLS = "TOKEN_SERVICE_HTTP_TLS"


@contextmanager
def answering(status: int, body: bytes, certificate: Path | None = None) -> Iterator[tuple[int, list[str]]]:
    """Serve one answer for all requests. Yields the port and the list of paths that were asked for."""
    import ssl
    from http.server import BaseHTTPRequestHandler, HTTPServer

    paths: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            paths.append(self.path)
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002  # the name of the base class
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_port, paths
        finally:
            server.shutdown()
            thread.join()


def test_200_is_no_problem() -> None:
    with answering(200, b"ok\n") as (port, paths):
        assert probe("/livez", {HTTP: f"0.0.0.0:{port}"}) is None
    assert paths == ["/livez"]


def test_other_status_is_shown_with_the_answer() -> None:
    with answering(503, b'{"ready":false,"problems":["database"]}') as (port, _):
        assert probe("/readyz", {HTTP: f"127.0.0.1:{port}"}) == (
            '/readyz: 503 {"ready":false,"problems":["database"]}'
        )


def test_certificate_is_not_verified(tmp_path: Path) -> None:
    made = Authority().server("tokens.example.org")
    (tmp_path / "server.pem").write_bytes(made.key + made.certificate)
    with answering(200, b"ok\n", tmp_path / "server.pem") as (port, _):
        assert probe("/livez", {HTTP: f"0.0.0.0:{port}", TLS: "Yes"}) is None


@pytest.mark.parametrize(("arguments", "path"), [([], "/livez"), (["/readyz"], "/readyz")])
def test_program_exits_with_1_without_an_answer(arguments: list[str], path: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "token_service.probe", *arguments],
        env={HTTP: "127.0.0.1:1"}, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"{path}: no answer from 127.0.0.1:1 (")


def test_program_loads_only_the_standard_library() -> None:
    listed = subprocess.run(
        [sys.executable, "-c", "import sys, token_service.probe; print(*sys.modules)"],
        capture_output=True, text=True, timeout=60, check=True,
    ).stdout.split()  # fmt: skip
    assert {name for name in listed if name.startswith("token_service")} == {
        "token_service",
        "token_service.probe",
    }
