"""The package examples/node: its own tests, the programs of its pages, and its Express middleware."""

from __future__ import annotations

import asyncio
import hashlib
import re
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tests.e2e.foreign_validator import BOUND, issued, revoked
from tests.integration.oauth.node import OAuthNode
from tests.integration.tour import DOCS
from tests.support import node as nodejs
from tests.support.certificates import Authority
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess
from tests.support.ports import free_port, release_port
from tests.support.processes import http_status
from token_service.tokens.base64url import encode


@pytest.fixture
def service() -> Iterator[OAuthNode]:
    """A node that a test may kill."""
    with OAuthNode() as node:
        yield node


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(), re.MULTILINE | re.DOTALL)


def test_commands_of_the_pages_run_the_tests_of_the_package_and_the_vectors() -> None:
    nodejs.install(nodejs.EXAMPLE)  # `npm ci`
    assert blocks(DOCS / "other-languages.md", "sh") == ["cd examples/node\nnpm ci\nnpm test\n"]
    (commands,) = blocks(nodejs.EXAMPLE / "README.md", "sh")
    assert commands.splitlines()[:2] == ["npm ci", "npm test"]
    assert commands.splitlines()[2] in (nodejs.EXAMPLE / "server.js").read_text()  # `shop` runs it
    done = subprocess.run(
        [*nodejs.find_node().npm, "test"],
        cwd=nodejs.EXAMPLE,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# fail 0" in done.stdout


def test_program_of_the_readme_protects_its_routes(service: OAuthNode, tmp_path: Path) -> None:
    (program,) = blocks(nodejs.EXAMPLE / "README.md", "js")
    port = free_port()
    for shown, real in {
        "http://127.0.0.1:8080": service.issuer,
        "127.0.0.1:50051": service.grpc_address,
        "listen(3000)": f"listen({port})",
    }.items():
        assert shown in program
        program = program.replace(shown, real)
    nodejs.install(nodejs.EXAMPLE)
    command = [str(nodejs.find_node().node), "--input-type=module", "--eval", program]
    process = ManagedProcess(command, log=tmp_path / "log", cwd=nodejs.EXAMPLE)
    token = asyncio.run(issued(service, scopes=["orders:read"], custom_claims={"roles": ["auditor"]}))
    trusted = asyncio.run(issued(service, custom_claims={"roles": ["auditor"]}, auth_context={"acr": "mfa"}))
    headers = {"Authorization": f"Bearer {token}"}
    try:
        eventually_sync(lambda: http_status(f"127.0.0.1:{port}", "/healthz") == 200)
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=60) as client:
            eventually_sync(lambda: client.get("/orders", headers=headers).text == "alice")
            assert client.get("/orders").status_code == 401
            weak = client.get("/reports", headers=headers)
            assert weak.status_code == 401
            assert "insufficient_user_authentication" in weak.headers["www-authenticate"]
            assert client.get("/reports", headers={"Authorization": f"Bearer {trusted}"}).text == "reports"
    finally:
        process.kill()
        release_port(port)


@contextmanager
def shop(service: OAuthNode, **env: str) -> Iterator[str]:
    """Run the example application; yield its `host:port`."""
    nodejs.install(nodejs.EXAMPLE)
    env |= {
        "ISSUER": service.issuer,
        "TARGET": service.grpc_address,
        "AUDIENCE": "api",
        "BOUND": str(BOUND),
        "PORT": "0",
    }
    with tempfile.TemporaryDirectory() as directory:
        process = ManagedProcess(
            [nodejs.find_node().node, "server.js"], log=Path(directory) / "log", env=env, cwd=nodejs.EXAMPLE
        )
        try:
            eventually_sync(lambda: process.log_text().endswith("\n"))
            address = f"127.0.0.1:{process.log_text().removeprefix('port ').strip()}"
            eventually_sync(lambda: http_status(address, "/healthz", tls="TLS_CERT" in env) == 200)
            yield address
            assert process.terminate(60) == 0
        finally:
            process.kill()


def test_middleware_answers_as_the_token_deserves(service: OAuthNode) -> None:
    with (
        shop(service) as address,
        httpx.Client(base_url=f"http://{address}", trust_env=False, timeout=60) as client,
    ):

        def get(token: str, path: str = "/orders", scheme: str = "Bearer") -> httpx.Response:
            return client.get(path, headers={"Authorization": f"{scheme} {token}"})

        token = asyncio.run(issued(service))
        answer = get(token)
        assert (answer.status_code, answer.text) == (200, "orders of alice")
        assert client.get("/orders").status_code == 401
        assert get(asyncio.run(issued(service, scopes=["write"]))).status_code == 403
        assert get(token, "/reports").status_code == 403
        auditor = asyncio.run(issued(service, custom_claims={"roles": ["auditor"]}))
        assert get(auditor, "/reports").status_code == 200
        bound = asyncio.run(issued(service, confirmation={"jkt": "x" * 43}))
        for scheme in ("Bearer", "DPoP"):
            refused = get(bound, scheme=scheme)
            assert refused.status_code == 401
            assert "the token is bound to a DPoP key" in refused.headers["www-authenticate"]
        asyncio.run(revoked(service, client_id="web"))
        assert get(token).status_code == 401
        later = asyncio.run(issued(service))
        assert get(later).status_code == 200
        service.kill()
        eventually_sync(lambda: get(later).status_code == 503)
        stale = get(later)
        assert stale.text == "temporarily unavailable; retry later"
        assert stale.headers["retry-after"] == "1"
        assert get(token).status_code == 401
        assert client.get("/healthz").status_code == 503


def test_certificate_bound_token_is_admitted_over_its_connection_alone(
    service: OAuthNode, tmp_path: Path
) -> None:
    authority = Authority()
    server, own, other = authority.server(), authority.caller(), authority.caller()
    files = {name: tmp_path / name for name in ("cert", "key", "ca", "own", "other")}
    files["cert"].write_bytes(server.certificate)
    files["key"].write_bytes(server.key)
    files["ca"].write_bytes(authority.certificate)
    for name, certificate in {"own": own, "other": other}.items():
        files[name].write_bytes(certificate.certificate + certificate.key)
    der = x509.load_pem_x509_certificate(own.certificate).public_bytes(Encoding.DER)
    thumbprint = encode(hashlib.sha256(der).digest())
    token = asyncio.run(issued(service, confirmation={"x5t_s256": thumbprint}))

    def get(address: str, name: str = "") -> tuple[int, str]:
        context = ssl.create_default_context(cafile=files["ca"])
        if name:
            context.load_cert_chain(files[name])
        with httpx.Client(verify=context, trust_env=False, timeout=60) as client:
            answer = client.get(f"https://{address}/orders", headers={"Authorization": f"Bearer {token}"})
        return answer.status_code, answer.headers.get("www-authenticate", "")

    with shop(service, TLS_CERT=str(files["cert"]), TLS_KEY=str(files["key"])) as address:
        assert get(address, "own") == (200, "")
        status, challenge = get(address, "other")
        assert status == 401
        assert "another one than the token is bound to" in challenge
        status, challenge = get(address)
        assert status == 401
        assert "the token is bound to a client certificate" in challenge
