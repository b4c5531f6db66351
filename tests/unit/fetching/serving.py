"""A server of key sets and discovery documents, on loopback, with or without TLS."""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.support.certificates import Authority, Certificate
from tests.support.token_mint import jwk_of, private_key


def jwk(name: str) -> dict[str, Any]:
    """Return the public key of this name, with the name as its `kid`."""
    return {**jwk_of(private_key("ES256", name)), "kid": name}


def key_set(*names: str, **members: object) -> bytes:
    """Return a key set with the keys of these names."""
    return json.dumps({"keys": [jwk(name) for name in names], **members}).encode()


@dataclass
class Reply:
    """An answer: status, headers, body."""

    body: bytes
    headers: dict[str, str] = field(default_factory=dict)
    status: str = "200 OK"


class KeyServer:
    """Answers with the reply of the path, and with 404 to other paths."""

    def __init__(self) -> None:
        self.replies: dict[str, Reply] = {}
        self.requests: list[tuple[str, dict[str, str]]] = []
        """Path and headers of each request."""
        self.failed_handshakes = 0
        self.open = asyncio.Event()
        """While it is not set, requests get no answer."""
        self.open.set()
        self.port = 0
        self.is_tls = False

    def publish(self, *names: str, path: str = "/jwks", **headers: str) -> None:
        """Publish a key set with the keys of these names. The `_` of header names stand for hyphens."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.replies[path] = Reply(key_set(*names), named)

    def discovery(self, issuer: str, jwks_uri: object, path: str = "") -> None:
        """Publish a discovery document."""
        document = json.dumps({"issuer": issuer, "jwks_uri": jwks_uri}).encode()
        self.replies[f"{path}/.well-known/openid-configuration"] = Reply(document)

    def url(self, path: str = "/jwks", host: str = "127.0.0.1") -> str:
        """Return the URL of a path."""
        return f"http{'s' * self.is_tls}://{host}:{self.port}{path}"

    @property
    def paths(self) -> list[str]:
        """The paths asked for, in order."""
        return [path for path, _ in self.requests]

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
            path = head[0].split(" ")[1]
            self.requests.append((path, dict(line.lower().split(": ", 1) for line in head[1:] if line)))
            await self.open.wait()
            reply = self.replies.get(path, Reply(b"", status="404 Not Found"))
            headers = {"Content-Length": str(len(reply.body)), **reply.headers}
            lines = [f"HTTP/1.1 {reply.status}", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + reply.body)
            await writer.drain()
        except (OSError, asyncio.IncompleteReadError):
            pass  # the client has disconnected
        finally:
            writer.close()


@asynccontextmanager
async def serving(
    certificate: Certificate | None = None, tmp_path: Path | None = None
) -> AsyncIterator[KeyServer]:
    """Run a server, with TLS if it gets a certificate and a directory for its files."""
    keys = KeyServer()
    context = None
    if certificate is not None and tmp_path is not None:
        context = tls_context(certificate, tmp_path)
        keys.is_tls = True
    server = await asyncio.start_server(keys.answer, "127.0.0.1", 0, ssl=context)
    keys.port = server.sockets[0].getsockname()[1]
    try:
        yield keys
    finally:
        keys.open.set()
        server.close()
        await server.wait_closed()


def tls_context(certificate: Certificate, tmp_path: Path) -> ssl.SSLContext:
    """Return the TLS context of a server; the directory gets its files."""
    (tmp_path / "chain.pem").write_bytes(certificate.certificate)
    (tmp_path / "key.pem").write_bytes(certificate.key)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "chain.pem", tmp_path / "key.pem")
    return context


def authorities(tmp_path: Path, authority: Authority) -> Path:
    """Return a file with the certificate of the authority."""
    path = tmp_path / "ca.pem"
    path.write_bytes(authority.certificate)
    return path


class Resolver:
    """Answers each look-up with the next of these addresses, and repeats the last one."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self._answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
