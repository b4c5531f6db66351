"""Tokens that are bound to a DPoP key or to a client certificate, over TLS, at both edges of a node."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from tests.integration.calls import TIMEOUT, Api
from tests.integration.oauth.node import API, OAuthNode, Registered, register
from tests.integration.oauth.site import claims_of, error_of
from tests.support.certificates import Authority, Certificate
from tests.unit.tokens.dpop_proofs import ProofMaker, b64
from token_service.v1 import token_pb2, token_service_pb2 as pb

NAME = "spiffe://example.org/billing"
MISSING, INVALID, WRONG = (
    pb.INVALID_REASON_PROOF_MISSING,
    pb.INVALID_REASON_PROOF_INVALID,
    pb.INVALID_REASON_WRONG_KEY,
)


@dataclass(frozen=True)
class Site:
    """A node with TLS on all ports."""

    node: OAuthNode
    authority: Authority
    directory: Path
    secret: Registered
    """A client with a secret whose tokens are bound to its certificate."""

    def http(self, certificate: Certificate | None = None) -> httpx.AsyncClient:
        """Return a client of the HTTP port with a certificate, or without."""
        context = ssl.create_default_context(cadata=self.authority.certificate.decode())
        if certificate is not None:
            path = self.directory / f"{thumbprint(certificate)}.pem"
            path.write_bytes(certificate.certificate + certificate.key)
            context.load_cert_chain(path)
        return httpx.AsyncClient(base_url=self.node.issuer, verify=context, trust_env=False, timeout=TIMEOUT)


def thumbprint(certificate: Certificate) -> str:
    """Return `x5t#S256` as cryptography computes it."""
    leaf = x509.load_pem_x509_certificate(certificate.certificate)
    return b64(leaf.fingerprint(hashes.SHA256()))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("tls")
    authority = Authority()
    server = authority.server()
    files = {"CERT_FILE": server.certificate, "KEY_FILE": server.key, "CLIENT_CA_FILE": authority.certificate}
    for name, content in files.items():
        (directory / name).write_bytes(content)
    env = {f"TOKEN_SERVICE_TLS_{name}": str(directory / name) for name in files}
    node = OAuthNode(env={"TOKEN_SERVICE_HTTP_TLS": "true", **env})
    node._settings["TOKEN_SERVICE_ISSUER"] = f"https://localhost:{node.http_address.rpartition(':')[2]}"
    operator = authority.caller(spiffe_id="spiffe://example.org/operator")
    node.credentials = grpc.ssl_channel_credentials(authority.certificate, operator.key, operator.certificate)

    async def prepare() -> Registered:
        async with Api(node.grpc_address, node.credentials) as api:
            return await register(api, "secret", tls_client_certificate_bound_access_tokens=True)

    with node:
        yield Site(node, authority, directory, asyncio.run(prepare()))


@pytest.fixture
async def operator(site: Site) -> AsyncIterator[Api]:
    async with Api(site.node.grpc_address, site.node.credentials) as api:
        yield api


async def reason(api: Api, token: str, **binding: Any) -> Any:
    """Return the reason of ValidateToken; None if the token is active."""
    bound = pb.Binding(**binding) if binding else None
    answer = await api.tokens.ValidateToken(
        pb.ValidateTokenRequest(token=token, binding=bound), timeout=TIMEOUT
    )
    return None if answer.active else answer.reason


async def test_token_is_bound_to_the_certificate_of_the_connection(site: Site, operator: Api) -> None:
    certificate, other = (site.authority.caller(spiffe_id=NAME) for _ in range(2))
    request = {"grant_type": "client_credentials", "scope": "read"}
    async with site.http(certificate) as http:
        answer = await http.post("/token", data=request, headers=site.secret.basic)
        document = (await http.get("/.well-known/openid-configuration")).json()
    assert document["tls_client_certificate_bound_access_tokens"] is True
    assert claims_of(answer)["cnf"] == {"x5t#S256": thumbprint(certificate)}
    token = answer.json()["access_token"]
    assert await reason(operator, token) == MISSING
    assert await reason(operator, token, certificate_thumbprint=thumbprint(other)) == WRONG
    assert await reason(operator, token, certificate_thumbprint=thumbprint(certificate)) is None
    async with site.http() as http:
        refused = await http.post("/token", data=request, headers=site.secret.basic)
    assert (error_of(refused), refused.json()["reason"]) == ("invalid_request", "BINDING_REQUIRED")


async def test_userinfo_takes_a_token_over_the_connection_of_its_certificate(
    site: Site, operator: Api
) -> None:
    certificate, other = (site.authority.caller(spiffe_id=NAME) for _ in range(2))
    issued = await operator.issue(
        client_id="login",
        audience=[API],
        scopes=["openid"],
        confirmation=token_pb2.Confirmation(x5t_s256=thumbprint(certificate)),
    )
    headers = {"Authorization": f"Bearer {issued.access_token}"}
    statuses = []
    for each in (certificate, other, None):
        async with site.http(each) as http:
            statuses.append((await http.get("/userinfo", headers=headers)).status_code)
    assert statuses == [200, 401, 401]


async def test_session_is_refreshed_with_the_certificate_that_the_caller_names(
    site: Site, operator: Api
) -> None:
    certificate, other = (site.authority.caller(spiffe_id=NAME) for _ in range(2))
    issued = await operator.issue(
        client_id="login",
        confirmation=token_pb2.Confirmation(x5t_s256=thumbprint(certificate)),
    )
    request = pb.RefreshTokenRequest(refresh_token=issued.refresh_token, client_id="login")
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await operator.tokens.RefreshToken(request, timeout=TIMEOUT)
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    request.binding.certificate_thumbprint = thumbprint(other)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await operator.tokens.RefreshToken(request, timeout=TIMEOUT)
    assert error.value.code() is grpc.StatusCode.PERMISSION_DENIED
    request.binding.certificate_thumbprint = thumbprint(certificate)
    refreshed = await operator.tokens.RefreshToken(request, timeout=TIMEOUT)
    assert await reason(operator, refreshed.access_token) == MISSING


async def test_dpop_token_from_the_request_to_the_verdict(site: Site, operator: Api) -> None:
    key, thief = ProofMaker(), ProofMaker("EdDSA")
    # The jti of the maker is a counter, and the memory of the node outlives this test.
    made = hashlib.sha256(str(time.time_ns()).encode()).hexdigest()
    client = await register(operator, f"batch-{made[:8]}", dpop_bound_access_tokens=True)
    request = {"grant_type": "client_credentials"}

    def proof(maker: ProofMaker, uri: str, method: str, token: str | None = None) -> str:
        maker.count += 1
        return maker.proof(token=token, uri=uri, method=method, now=time.time(), jti=f"{made}-{maker.count}")

    endpoint, api = f"{site.node.issuer}/token", f"{API}/orders"
    sent = proof(key, endpoint, "POST")
    async with site.http() as http:
        bearer = await http.post("/token", data=request, headers=client.basic)
        assert bearer.json()["reason"] == "BINDING_REQUIRED"
        answer = await http.post("/token", data=request, headers={**client.basic, "DPoP": sent})
        assert claims_of(answer)["cnf"] == {"jkt": key.jkt}
        replayed = await http.post("/token", data=request, headers={**client.basic, "DPoP": sent})
        assert error_of(replayed) == "invalid_dpop_proof"
    assert answer.json()["token_type"] == "DPoP"
    token = answer.json()["access_token"]
    values = {"http_method": "GET", "http_uri": f"{api}?page=2"}
    shown = proof(key, api, "GET", token)
    verdicts = [
        await reason(operator, token),
        await reason(operator, token, dpop_proof=shown, **values),
        await reason(operator, token, dpop_proof=shown, **values),
        await reason(operator, token, dpop_proof=proof(thief, api, "GET", token), **values),
        await reason(operator, token, dpop_proof=proof(key, endpoint, "GET", token), **values),
    ]
    assert verdicts == [MISSING, None, INVALID, WRONG, INVALID]
