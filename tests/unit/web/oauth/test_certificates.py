"""Clients that authenticate themselves with a certificate at the token endpoint (RFC 8705, section 2), over real TLS."""

from __future__ import annotations

import ssl
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509

from tests.contract.builders import a_client
from tests.support.certificates import Authority, Certificate, subject_alt_names
from tests.unit.web.oauth.serving import Site, site
from token_service.certificates.server import TlsFiles
from token_service.certificates.verification import CertificateVerifier
from token_service.core.clients.client import CLIENT_CREDENTIALS, AuthMethod, Client
from token_service.web.server import HttpServer
from token_service.web.tls import TlsContext

SERVERS, CLIENTS = Authority("servers"), Authority("clients")
SPIFFE, DNS = "spiffe://example.org/batch", "batch.internal"


def certified(client_id: str, **changes: Any) -> Client:
    method = AuthMethod.TLS_CLIENT_AUTH
    values = {"token_endpoint_auth_method": method, "grant_types": (CLIENT_CREDENTIALS,), **changes}
    return a_client(client_id, **values)


BATCH = certified("batch", tls_client_auth_san_uri=SPIFFE)
NIGHTLY = certified("nightly", tls_client_auth_san_dns=DNS)
PUBLIC = a_client("public", grant_types=(CLIENT_CREDENTIALS,))


class Clock:
    """The clocks of this machine, set ahead by `ahead` seconds."""

    ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic() + self.ahead


class Endpoint:
    """A token endpoint with TLS. Its authorities of clients can be replaced."""

    def __init__(
        self, served: Site, server: HttpServer, verifier: CertificateVerifier, clock: Clock, directory: Path
    ) -> None:
        self.served, self.verifier, self.clock = served, verifier, clock
        self._server, self._directory = server, directory

    def connect(self, certificate: Certificate | None) -> httpx.AsyncClient:
        """Return a client that has one connection, with a certificate."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(cadata=SERVERS.certificate.decode())
        if certificate is not None:
            path = self._directory / "client.pem"
            path.write_bytes(certificate.certificate + certificate.key)
            context.load_cert_chain(path)
        return httpx.AsyncClient(
            base_url=f"https://{self._server.address}", verify=context, trust_env=False, timeout=60
        )

    async def why(self, certificate: Certificate | None, client_id: str = "batch", **data: str) -> str:
        """Return why the endpoint refuses a token; empty: it issued one."""
        async with self.connect(certificate) as client:
            return await ask(client, client_id, **data)


async def ask(client: httpx.AsyncClient, client_id: str = "batch", **data: str) -> str:
    answer = await client.post(
        "/token", data={"grant_type": CLIENT_CREDENTIALS, "client_id": client_id, **data}
    )
    body: dict[str, str] = answer.json()
    return "" if answer.status_code == 200 and body["access_token"] else body["error"]


@asynccontextmanager
async def endpoint(tmp_path: Path, *clients: Client) -> AsyncIterator[Endpoint]:
    paths = TlsFiles(tmp_path / "cert.pem", tmp_path / "key.pem", tmp_path / "ca.pem")
    server_certificate = SERVERS.server()
    paths.certificate_chain.write_bytes(server_certificate.certificate)
    paths.private_key.write_bytes(server_certificate.key)
    (tmp_path / "ca.pem").write_bytes(CLIENTS.certificate)
    tls = TlsContext(paths)
    tls.load()
    clock = Clock()
    verifier = CertificateVerifier([CLIENTS.x509], clock)
    async with (
        site(*clients, certificates=verifier) as served,
        HttpServer("127.0.0.1", 0, served.app, tls=tls) as server,
    ):
        yield Endpoint(served, server, verifier, clock, tmp_path)


async def test_client_gets_a_token_with_its_certificate(tmp_path: Path) -> None:
    async with endpoint(tmp_path, BATCH, NIGHTLY, PUBLIC) as made:
        spiffe, dns = CLIENTS.caller(spiffe_id=SPIFFE), CLIENTS.caller(dns_name=DNS)
        below = Authority("middle", parent=CLIENTS).caller(spiffe_id=SPIFFE)
        assert await made.why(spiffe) == ""
        assert await made.why(below) == ""
        assert await made.why(dns, "nightly") == ""
        assert await made.why(CLIENTS.caller(spiffe_id=SPIFFE, dns_name="other.internal")) == ""
        for certificate, client_id in (
            (None, "batch"),
            (dns, "batch"),
            (spiffe, "nightly"),
            (CLIENTS.caller(dns_name="other.internal"), "nightly"),
            (CLIENTS.caller(spiffe_id=f"{SPIFFE}/x"), "batch"),
            (CLIENTS.caller(spiffe_id=SPIFFE, dns_name=DNS), "batch"),  # two clients
            (CLIENTS.issue(), "batch"),
            (spiffe, "unknown"),
        ):
            assert await made.why(certificate, client_id) == "invalid_client", client_id
        assert await made.why(spiffe, "public") == "unauthorized_client"  # it proves nothing with it


async def test_types_of_names_are_never_mixed(tmp_path: Path) -> None:
    as_dns = CLIENTS.issue(raw_names=subject_alt_names((2, SPIFFE.encode())))
    as_uri = CLIENTS.issue([x509.UniformResourceIdentifier(DNS)])
    async with endpoint(tmp_path, BATCH, NIGHTLY) as made:
        assert await made.why(as_dns) == "invalid_client"
        assert await made.why(as_uri, "nightly") == "invalid_client"


async def test_name_of_two_clients_identifies_none(tmp_path: Path) -> None:
    async with endpoint(tmp_path, BATCH) as made:
        certificate = CLIENTS.caller(spiffe_id=SPIFFE)
        assert await made.why(certificate) == ""
        await made.served.register(certified("twin", tls_client_auth_san_uri=SPIFFE))
        assert await made.why(certificate) == "invalid_client"


async def test_certificate_counts_until_its_end_on_an_open_connection(tmp_path: Path) -> None:
    async with (
        endpoint(tmp_path, BATCH) as made,
        made.connect(CLIENTS.caller(spiffe_id=SPIFFE, lifetime=600)) as open_,
    ):
        assert await ask(open_) == ""
        made.clock.ahead = 599
        assert await ask(open_) == ""
        made.clock.ahead = 601
        assert await ask(open_) == "invalid_client"


async def test_withdrawn_authority_ends_the_certificates_of_open_connections(tmp_path: Path) -> None:
    async with endpoint(tmp_path, BATCH) as made, made.connect(CLIENTS.caller(spiffe_id=SPIFFE)) as open_:
        assert await ask(open_) == ""
        made.verifier.authorities = [Authority("clients").x509]
        assert await ask(open_) == "invalid_client"
        made.verifier.authorities = [CLIENTS.x509]
        assert await ask(open_) == ""


async def test_failures_are_recorded_with_their_cause_and_slowed_down(tmp_path: Path) -> None:
    async with endpoint(tmp_path, BATCH, NIGHTLY) as made:
        async with made.connect(CLIENTS.caller(dns_name=DNS)) as wrong:
            for _ in range(10):
                assert await ask(wrong) == "invalid_client"
            assert await ask(wrong) == "temporarily_unavailable"
        events = made.served.node.audit.named("client.authentication_failed")
        assert len(events) == 10
        assert "the certificate is not that of this client alone" in str(events[0])


async def test_certificate_beside_a_secret_is_no_second_proof(tmp_path: Path) -> None:
    async with endpoint(tmp_path, BATCH) as made:
        assert await made.why(CLIENTS.caller(spiffe_id=SPIFFE), client_secret="x") == "invalid_client"


async def test_discovery_names_the_method_only_if_certificates_are_accepted(tmp_path: Path) -> None:
    path, member = "/.well-known/openid-configuration", "token_endpoint_auth_methods_supported"
    async with site(BATCH) as served:
        plain = (await served.http.get(path)).json()[member]
        assert plain == ["client_secret_basic", "client_secret_post", "private_key_jwt", "none"]
        assert (await served.http.post("/token", data={"client_id": "batch"})).json()[
            "error"
        ] == "invalid_client"
    async with endpoint(tmp_path, BATCH) as made, made.connect(None) as client:
        document = (await client.get(path)).json()
    assert document[member] == [*plain, "tls_client_auth"]
    for name in ("introspection", "revocation"):
        assert document[f"{name}_endpoint_auth_methods_supported"][-1] == "tls_client_auth"


async def test_endpoint_is_refused_without_tls() -> None:
    async with site(PUBLIC) as served:
        answer = await served.http.post("http://issuer.example/token", data={"client_id": "public"})
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")
        assert "must be https" in answer.json()["error_description"]
        assert (
            await served.http.get("http://issuer.example/.well-known/openid-configuration")
        ).status_code == 200
