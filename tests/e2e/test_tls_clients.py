"""openid-client and oauth4webapi over https, also with a client certificate (RFC 8705, section 2.1)."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.e2e.conformance import assert_conformant
from tests.e2e.oauth import Answers, Client, ask, register
from tests.integration.oauth.node import OAuthNode
from tests.support.certificates import Authority, Certificate

NAME = "spiffe://example.org/billing"

both_programs = pytest.mark.parametrize("program", ["openid_client.mjs", "oauth4webapi.mjs"])


@dataclass(frozen=True)
class Site:
    """A node with TLS on all ports, and the authority of its and of its callers' certificates."""

    node: OAuthNode
    authority: Authority

    def ask(self, program: str, client: Client, certificate: Certificate | None = None) -> Answers:
        """Let a program ask for an access token, with a client certificate or without."""
        tls = {"ca": self.authority.certificate.decode()}
        if certificate is not None:
            tls |= {"cert": certificate.certificate.decode(), "key": certificate.key.decode()}
        call = {"call": "client_credentials", "parameters": {"scope": "read"}}
        answers = ask(program, self.node, client, {"call": "metadata"}, call, tls=tls)
        assert_conformant(answers.wire)
        return answers


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A node of the profile of development."""
    directory: Path = tmp_path_factory.mktemp("tls")
    authority = Authority()
    server, operator = authority.server(), authority.caller(spiffe_id="spiffe://example.org/operator")
    files = {"CERT_FILE": server.certificate, "KEY_FILE": server.key, "CLIENT_CA_FILE": authority.certificate}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    env = {f"TOKEN_SERVICE_TLS_{name}": str(directory / name) for name in files}
    node = OAuthNode(env={"TOKEN_SERVICE_HTTP_TLS": "true", **env})
    port = node.http_address.rpartition(":")[2]
    node._settings["TOKEN_SERVICE_ISSUER"] = f"https://localhost:{port}"
    node.credentials = grpc.ssl_channel_credentials(authority.certificate, operator.key, operator.certificate)
    with node:
        yield Site(node, authority)


@pytest.fixture(scope="module")
def billing(site: Site) -> Client:
    """A client that proves itself with a certificate."""
    return register(
        site.node,
        "billing",
        "tls_client_auth",
        grant_types=["client_credentials"],
        tls_client_auth_san_uri=NAME,
    )


@both_programs
def test_client_certificate_proves_a_client(site: Site, billing: Client, program: str) -> None:
    answers = site.ask(program, billing, site.authority.caller(spiffe_id=NAME))
    assert "tls_client_auth" in answers.ok(0)["token_endpoint_auth_methods_supported"]
    assert answers.ok(0)["token_endpoint"] == f"{site.node.issuer}/token"
    assert answers.ok(1)["scope"] == "read"


@both_programs
@pytest.mark.parametrize("name", ["", "spiffe://example.org/other"])
def test_missing_or_other_certificate_proves_nothing(
    site: Site, billing: Client, program: str, name: str
) -> None:
    certificate = site.authority.caller(spiffe_id=name) if name else None
    answers = site.ask(program, billing, certificate)
    assert "refused" in answers.results[1]
    assert (answers.wire[-1]["status"], json.loads(answers.wire[-1]["body"])["error"]) == (
        401,
        "invalid_client",
    )


@both_programs
def test_secret_is_enough_over_https(site: Site, program: str) -> None:
    client = register(
        site.node, f"secret-{program[:6]}", "client_secret_basic", grant_types=["client_credentials"]
    )
    assert site.ask(program, client).ok(1)["scope"] == "read"


@both_programs
def test_token_is_bound_to_the_client_certificate(site: Site, program: str) -> None:
    name = f"spiffe://example.org/bound/{program[:6]}"
    client = register(
        site.node,
        f"bound-{program[:6]}",
        "tls_client_auth",
        grant_types=["client_credentials"],
        tls_client_auth_san_uri=name,
        tls_client_certificate_bound_access_tokens=True,
    )
    certificate = site.authority.caller(spiffe_id=name)
    answers = site.ask(program, client, certificate)
    assert answers.ok(0)["tls_client_certificate_bound_access_tokens"] is True
    leaf = x509.load_pem_x509_certificate(certificate.certificate)
    thumbprint = base64.urlsafe_b64encode(leaf.fingerprint(hashes.SHA256())).rstrip(b"=").decode()
    payload = answers.ok(1)["access_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    assert claims["cnf"] == {"x5t#S256": thumbprint}
