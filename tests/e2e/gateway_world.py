"""A token service, a gateway, a proxy with the example of deploy/gateways, and applications behind it."""

from __future__ import annotations

import base64
import hashlib
import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import sys
import tempfile
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import grpc

from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually_sync
from tests.support.gateway_process import ISSUER
from tests.support.gateway_upstream import GrpcUpstream, Upstream, frame
from tests.support.managed import ManagedProcess
from tests.support.processes import ServiceProcess
from tests.support.proxy_process import ProxyProcess
from tests.support.raw_http2 import RawConnection
from token_service.v1 import key_service_pb2, token_pb2, token_service_pb2 as pb

EXAMPLES = Path(__file__).resolve().parents[2] / "deploy" / "gateways"
AUDIENCE = "https://api.example"
MFA = "urn:example:mfa"
BOUND = 5.0
"""`freshness_bound` of the examples, which is the default."""
_SERVICE = "/token_service.v1.TokenService/"
_KEYS = "/token_service.v1.KeyService/"
Headers = Iterable[tuple[str, str]]


@dataclass(frozen=True)
class Reply:
    """A response of the proxy."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes


class ExampleGateway:
    """`token-service gateway` with the `gateway.toml` of an example. Only the addresses and the issuer are replaced."""

    def __init__(self, example: Path, target: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="token-gateway-"))
        text = (example / "gateway.toml").read_text()
        for old, new in (
            ("/run/token-gateway", str(self.directory)),
            ("https://tokens.example", ISSUER),
            ("dns:///tokens.internal:50051", target),
        ):
            assert old in text, f"{example}/gateway.toml has no {old}"
            text = text.replace(old, new)
        self.config = self.directory / "gateway.toml"
        self.config.write_text(text)
        self._process: ManagedProcess | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()
        print(self.log_text()[-8000:])  # pytest shows it if a test failed
        shutil.rmtree(self.directory, ignore_errors=True)

    def start(self) -> None:
        """Start, and return when the gateway is ready."""
        self._process = ManagedProcess(
            [sys.executable, "-m", "token_service", "gateway", "--config", self.config],
            log=self.directory / "log",
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        )
        eventually_sync(lambda: self.get("/readyz") == 200)

    @contextmanager
    def reconfigured(self, old: str, new: str) -> Iterator[None]:
        """Change the configuration of the running gateway. It may name the file `nonce.keys`."""
        assert self._process is not None
        (self.directory / "nonce.keys").write_text("ab" * 32 + "\n")
        before = self.config.read_text()
        assert old in before
        self.config.write_text(before.replace(old, new))
        self._process.send_signal(signal.SIGHUP)
        try:
            yield
        finally:
            self.config.write_text(before)
            self._process.send_signal(signal.SIGHUP)

    def kill(self) -> None:
        """Kill the gateway."""
        if self._process is not None:
            self._process.kill()

    def pause(self) -> None:
        """Stop the gateway: connected but silent."""
        assert self._process is not None
        self._process.pause()

    def resume(self) -> None:
        """Undo `pause`."""
        assert self._process is not None
        self._process.resume()

    def log_text(self) -> str:
        """Return the standard output and error of all starts."""
        return self._process.log_text() if self._process is not None else ""

    def get(self, path: str) -> int | None:
        """Return the status of a page of the gateway; None if it does not answer."""
        assert self._process is not None
        assert self._process.running, self.log_text()
        connection = _UnixConnection(str(self.directory / "http.sock"))
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()


class World:
    """All of them. `authority` signs the certificate of the proxy, and those of clients."""

    def __init__(
        self,
        stack: ExitStack,
        example: str,
        proxy: Callable[[str], ProxyProcess],
        configuration: str,
        replaced: Mapping[str, str],
    ) -> None:
        """`replaced`: texts of the file `configuration` of the example, and their replacements."""
        self.service = stack.enter_context(ServiceProcess())
        self.channel = stack.enter_context(grpc.insecure_channel(self.service.grpc_address))
        self.gateway = stack.enter_context(ExampleGateway(EXAMPLES / example, self.service.grpc_address))
        self.upstream = stack.enter_context(Upstream())
        self.grpc_upstream = stack.enter_context(GrpcUpstream())
        self.authority = Authority()
        text = (EXAMPLES / example / configuration).read_text()
        for old, new in {
            **replaced,
            "/run/token-gateway": str(self.gateway.directory),
            "127.0.0.1:8000": f"127.0.0.1:{self.upstream.port}",
            "127.0.0.1:8001": f"127.0.0.1:{self.upstream.port}",
            "127.0.0.1:8002": f"127.0.0.1:{self.grpc_upstream.port}",
            "port_value: 8000": f"port_value: {self.upstream.port}",
            "port_value: 8001": f"port_value: {self.upstream.port}",
            "port_value: 8002": f"port_value: {self.grpc_upstream.port}",
        }.items():
            text = text.replace(old, new)
        self.proxy = proxy(text)
        own = self.authority.server()
        self.proxy.write("certificate.pem", own.certificate)
        self.proxy.write("key.pem", own.key)
        self.proxy.write("clients.pem", self.authority.certificate)
        stack.enter_context(self.proxy)

    # The token service

    def call(self, method: str, request: Any, response: Any, timeout: float = 60) -> Any:
        """Call the token service."""
        call: Any = self.channel.unary_unary(method)
        return response.FromString(call(request.SerializeToString(), timeout=timeout, wait_for_ready=True))

    def issue(self, *, claims: Mapping[str, Any] | None = None, **fields: Any) -> str:
        """Return an access token of alice for orders:read, with further fields of IssueTokenRequest."""
        request = pb.IssueTokenRequest(
            **{
                "subject": "alice",
                "client_id": "web",
                "audience": [AUDIENCE],
                "scopes": ["orders:read"],
                "token_types": [token_pb2.TOKEN_TYPE_ACCESS],
            }
            | fields
        )
        if claims is not None:
            request.custom_claims.update(claims)
        return str(self.call(f"{_SERVICE}IssueToken", request, pb.IssueTokenResponse).access_token)

    def issue_session(self) -> str:
        """Return an access token of a session."""
        return self.issue(token_types=[token_pb2.TOKEN_TYPE_ACCESS, token_pb2.TOKEN_TYPE_REFRESH])

    def revoke(self, token: str) -> None:
        """Revoke a token, and return when the gateway applied it."""
        request = pb.RevokeTokenRequest(token=token)
        request.wait.applied_by_all = True
        request.wait.timeout.seconds = 50
        done = self.call(f"{_SERVICE}RevokeToken", request, pb.RevokeTokenResponse)
        assert (done.subscribers_applied, done.subscribers_silent) == (done.subscribers_connected, 0), done
        assert done.subscribers_connected >= 1

    def rotate_keys(self) -> None:
        """Make new tokens be signed by a new key."""
        prepared = self.call(
            f"{_KEYS}PrepareSigningKey",
            key_service_pb2.PrepareSigningKeyRequest(),
            key_service_pb2.PrepareSigningKeyResponse,
        )
        self.call(
            f"{_KEYS}ActivateSigningKey",
            key_service_pb2.ActivateSigningKeyRequest(key_id=prepared.signing_key.key_id, force=True),
            key_service_pb2.ActivateSigningKeyResponse,
        )

    # Clients of the proxy

    def connect(self, certificate: Certificate | None = None) -> http.client.HTTPSConnection:
        """Return a connection to the proxy, with a client certificate if one is given."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if certificate is not None:
            path = self.proxy.write(
                f"client-{threading.get_ident()}.pem", certificate.certificate + certificate.key
            )
            context.load_cert_chain(path)
        return http.client.HTTPSConnection("localhost", self.proxy.port, context=context, timeout=60)

    def ask(
        self,
        target: str,
        token: str | None = None,
        *,
        method: str = "GET",
        headers: Headers = (),
        body: bytes = b"",
        certificate: Certificate | None = None,
    ) -> Reply:
        """Send one request. The target is sent as it is."""
        connection = self.connect(certificate)
        try:
            connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
            connection.putheader("Host", "localhost")
            for name, value in [*headers, *([("Authorization", f"Bearer {token}")] if token else [])]:
                connection.putheader(name, value)
            if body:
                connection.putheader("Content-Length", str(len(body)))
            connection.endheaders(body or None)
            answer = connection.getresponse()
            return Reply(answer.status, answer.headers, answer.read())
        finally:
            connection.close()

    @contextmanager
    def stream(self, token: str) -> Iterator[http.client.HTTPResponse]:
        """Return a response that goes on as `upstream.push` says, after its first part."""
        connection = self.connect()
        try:
            connection.request("GET", "/events/stream", headers={"Authorization": f"Bearer {token}"})
            answer = connection.getresponse()
            assert answer.status == 200
            assert answer.read1(100) == b"first"
            yield answer
        finally:
            self.upstream.push(b"")
            connection.close()

    @contextmanager
    def web_socket(self, token: str | None) -> Iterator[tuple[int, Callable[[bytes], bytes]]]:
        """Yield the status of a WebSocket handshake, and a function that sends a text and returns the next one."""
        connection = self.connect()
        try:
            connection.request(
                "GET",
                "/events/socket",
                headers={
                    "Connection": "Upgrade",
                    "Upgrade": "websocket",
                    "Sec-WebSocket-Version": "13",
                    "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
                    **({"Authorization": f"Bearer {token}"} if token is not None else {}),
                },
            )
            sock = connection.sock
            assert sock is not None
            status = int(_read_head(sock).split(b" ")[1])

            def exchange(text: bytes) -> bytes:
                sock.sendall(frame(text, b"abcd"))
                answer = b""
                while len(answer) < 2 + len(text):
                    part = sock.recv(2 + len(text) - len(answer))
                    assert part, "the proxy closed the WebSocket"
                    answer += part
                return answer[2:]

            yield status, exchange
        finally:
            connection.close()

    @contextmanager
    def grpc_channel(self) -> Iterator[grpc.Channel]:
        """Yield a channel through the proxy."""
        credentials = grpc.ssl_channel_credentials(self.authority.certificate)
        with grpc.secure_channel(f"localhost:{self.proxy.port}", credentials) as channel:
            yield channel

    def http2(self) -> RawConnection:
        """Return a connection for HTTP/2."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        context.set_alpn_protocols(["h2"])
        return RawConnection(f"127.0.0.1:{self.proxy.port}", tls=context)

    def reached(self) -> int:
        """Return the number of requests that have reached the applications."""
        return len(self.upstream.seen) + len(self.grpc_upstream.seen)


def bearer(token: str) -> list[tuple[str, str]]:
    """Return the metadata of a gRPC call."""
    return [("authorization", f"Bearer {token}")]


def claims_of(token: str) -> dict[str, Any]:
    """Return the claims of a JWT."""
    payload = token.split(".")[1]
    return dict(json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4))))


def thumbprint(certificate: Certificate) -> str:
    """Return `x5t#S256` of a certificate."""
    der = ssl.PEM_cert_to_DER_cert(certificate.certificate.decode())
    return base64.urlsafe_b64encode(hashlib.sha256(der).digest()).rstrip(b"=").decode()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(30)
        self.sock.connect(self._path)


def _read_head(sock: socket.socket) -> bytes:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        part = sock.recv(1)
        assert part, f"the proxy closed the connection after {head!r}"
        head += part
    return head
