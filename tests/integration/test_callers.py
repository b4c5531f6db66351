"""Callers of a production node: by certificate on one port, and by a proof in the metadata on the other."""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any

import grpc
import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from grpc_health.v1 import health_pb2

from tests.integration.calls import ACCESS, TIMEOUT, Api, Follower, refused
from tests.integration.nodes import Node, key_encryption_key
from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually, eventually_sync
from token_service.core.access.credentials import ASSERTION_TYPE
from token_service.tokens.jwk import public_jwk
from token_service.v1 import (
    client_service_pb2 as pb,
    client_service_pb2_grpc,
    key_service_pb2,
    session_service_pb2,
    token_service_pb2,
)

ISSUER = "https://tokens.example.org"
OPERATOR = "spiffe://example.org/operator"
LOGIN = "spiffe://example.org/login"
ACCOUNT = "system:serviceaccount:prod:gateway"
KEY = ec.generate_private_key(ec.SECP256R1())

POLICY = f"""
[callers."{OPERATOR}"]
permissions = ["admin", "revoke"]

[[callers."{LOGIN}".rights]]
permission = "issue"
clients = ["web"]
may = ["other_subjects"]

[callers."workload:cluster:{ACCOUNT}"]
permissions = ["validate", "subscribe"]

[workload_issuers.mesh]
trust_domain = "example.org"
audience = "{ISSUER}"
keys = "file:BUNDLE"

[workload_issuers.cluster]
issuer = "https://kubernetes.default.svc"
audience = "{ISSUER}"
keys = "file:BUNDLE"
"""

Metadata = tuple[tuple[str, str], ...]


@dataclass
class Site:
    """A node with two gRPC ports."""

    node: Node
    authority: Authority
    environ: dict[str, str]
    token_address: str = ""

    def operator(self) -> Api:
        """Return the operator, with a certificate on the port for certificates."""
        return self.api(self.authority.caller(spiffe_id=OPERATOR))

    def api(self, certificate: Certificate) -> Api:
        """Return a caller with a certificate."""
        return Api(
            self.node.grpc_address,
            grpc.ssl_channel_credentials(
                self.authority.certificate, certificate.key, certificate.certificate
            ),
        )

    def proved(self, *metadata: tuple[str, str]) -> Api:
        """Return a caller on the port without certificates that sends metadata with each call."""
        transport = grpc.ssl_channel_credentials(self.authority.certificate)
        return Api(self.token_address, with_metadata(transport, metadata) if metadata else transport)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run a command on the database of the node."""
        return subprocess.run(
            [sys.executable, "-m", "token_service", *arguments],
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
            env=self.environ,
        )


def with_metadata(transport: grpc.ChannelCredentials, metadata: Metadata) -> grpc.ChannelCredentials:
    """Return credentials of a channel that add metadata to each call."""
    call = grpc.metadata_call_credentials(lambda _context, done: done(metadata, None))  # type: ignore[arg-type]  # any callable
    return grpc.composite_channel_credentials(transport, call)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, shared_postgres_url: str) -> Iterator[Site]:
    directory = tmp_path_factory.mktemp("callers")
    authority = Authority()
    server = authority.server()
    for name, content in (
        ("cert.pem", server.certificate),
        ("key.pem", server.key),
        ("client-ca.pem", authority.certificate),
    ):
        (directory / name).write_bytes(content)
    bundle = directory / "bundle.json"
    bundle.write_text(json.dumps({"keys": [{**public_jwk(KEY.public_key()), "use": "jwt-svid"}]}))
    # A bundle names no algorithm and may hold keys of both uses; the cluster publishes plain keys.
    keys = directory / "keys.json"
    keys.write_text(json.dumps({"keys": [public_jwk(KEY.public_key())]}))
    policy = POLICY.replace("file:BUNDLE", f"file:{bundle}", 1).replace("file:BUNDLE", f"file:{keys}")
    (directory / "policy.toml").write_text(policy)
    key_file = directory / "keys"
    key_file.touch(mode=0o600)
    key_file.write_text(key_encryption_key())
    env = {
        "TOKEN_SERVICE_PROFILE": "production",
        "TOKEN_SERVICE_HTTP_TLS": "true",
        "TOKEN_SERVICE_DATABASE_URL": shared_postgres_url,
        "TOKEN_SERVICE_ISSUER": ISSUER,
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE": str(key_file),
        "TOKEN_SERVICE_AUDIT_KEY_FILE": str(key_file),
        "TOKEN_SERVICE_TLS_CERT_FILE": str(directory / "cert.pem"),
        "TOKEN_SERVICE_TLS_KEY_FILE": str(directory / "key.pem"),
        "TOKEN_SERVICE_TLS_CLIENT_CA_FILE": str(directory / "client-ca.pem"),
        "TOKEN_SERVICE_POLICY_FILE": str(directory / "policy.toml"),
        "TOKEN_SERVICE_GRPC_TOKEN_ADDRESS": "127.0.0.1:0",
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
    }
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    made = Site(Node(env=env), authority, {**inherited, **env})
    made.run("migrate")
    with made.node:
        pattern = re.compile(r"gRPC without client certificates on (\S+)")
        made.token_address = eventually_sync(lambda: pattern.search(made.node.log_text()))[1]
        yield made


async def register(site: Site, client_id: str, **fields: Any) -> str:
    """Register a client; return its secret, if it has one."""
    async with site.operator() as operator:
        stub: Any = client_service_pb2_grpc.ClientServiceStub(operator.channel)
        request = pb.CreateClientRequest(client=pb.Client(client_id=client_id, **fields))
        secret: str = (await stub.CreateClient(request, timeout=TIMEOUT)).client_secret
    return secret


async def end(site: Site, client_id: str) -> None:
    async with site.operator() as operator:
        stub: Any = client_service_pb2_grpc.ClientServiceStub(operator.channel)
        await stub.DisableClient(pb.DisableClientRequest(client_id=client_id), timeout=TIMEOUT)


def basic(client_id: str, secret: str) -> tuple[str, str]:
    return "authorization", f"Basic {b64encode(f'{client_id}:{secret}'.encode()).decode()}"


def bearer(token: str) -> tuple[str, str]:
    return "authorization", f"Bearer {token}"


def signed(**claims: Any) -> str:
    header = {"kid": public_jwk(KEY.public_key())["kid"]}
    return jwt.encode({"exp": int(time.time()) + 120, **claims}, KEY, algorithm="ES256", headers=header)


def assertion(client_id: str, jti: str, aud: Any = ISSUER) -> Metadata:
    token = signed(iss=client_id, sub=client_id, aud=aud, jti=jti)
    return ("client-assertion-type", ASSERTION_TYPE), ("client-assertion", token)


CONFIDENTIAL = {"token_endpoint_auth_method": pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC}
KEYED = {
    "token_endpoint_auth_method": pb.TOKEN_ENDPOINT_AUTH_METHOD_PRIVATE_KEY_JWT,
    "jwks": json.dumps({"keys": [public_jwk(KEY.public_key())]}),
}


def may_issue(client_id: str) -> pb.Right:
    return pb.Right(permission="issue", clients=[client_id])


async def test_client_secret_identifies_a_caller_within_its_rights(site: Site) -> None:
    secret = await register(site, "billing", rights=[may_issue("billing")], **CONFIDENTIAL)
    async with site.proved(basic("billing", secret)) as api:
        issued = await api.issue("billing", client_id="billing")
        await api.refresh(issued.refresh_token, client_id="billing")
        await api.revoke(session_id=issued.session_id)
        for call in (
            api.issue("alice", client_id="billing"),
            api.issue("web", client_id="web"),
            api.validate(issued.access_token),
            api.revoke(subject="alice"),
            api.sessions.ListSessions(session_service_pb2.ListSessionsRequest(subject="a"), timeout=TIMEOUT),
        ):
            assert (await refused(call)).reason == "PERMISSION_DENIED"
    async with site.proved(basic("billing", "tscs_wrong")) as api:
        failure = await refused(api.issue("billing", client_id="billing"))
        assert (failure.code.name, failure.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")


async def test_client_behind_a_trusted_proxy_is_known_by_client_cert(site: Site) -> None:
    method = pb.TOKEN_ENDPOINT_AUTH_METHOD_TLS_CLIENT_AUTH
    await register(
        site, "proxied", token_endpoint_auth_method=method, tls_client_auth_san_dns="proxied.internal",
        grant_types=["client_credentials"], audiences=["https://api.example"],
    )  # fmt: skip
    behind = {
        "TOKEN_SERVICE_HTTP_TLS": "false",
        "TOKEN_SERVICE_TRUSTED_PROXIES": "127.0.0.1",
        "TOKEN_SERVICE_PROXY_CLIENT_CERT": "true",
    }
    env = {name: value for name, value in site.environ.items() if name.startswith("TOKEN_SERVICE_")} | behind

    def client_cert(certificate: Certificate) -> str:
        der = ssl.PEM_cert_to_DER_cert(certificate.certificate.decode())
        return f":{b64encode(der).decode()}:"

    own = {
        "X-Forwarded-For": "198.51.100.7",
        "X-Forwarded-Proto": "https",
        "Client-Cert": client_cert(site.authority.caller(dns_name="proxied.internal")),
    }
    form = {"grant_type": "client_credentials", "client_id": "proxied"}
    with Node(env=env) as node:
        async with httpx.AsyncClient(
            base_url=f"http://{node.http_address}", trust_env=False, timeout=60
        ) as proxy:

            async def answer(**changes: str) -> tuple[int, str]:
                got = await proxy.post("/token", data=form, headers={**own, **changes})
                return got.status_code, got.json().get("error", "")

            assert await eventually(answer_is(answer, (200, "")))  # the node learns of the client first
            stranger = client_cert(Authority().caller(dns_name="proxied.internal"))
            assert await answer(**{"Client-Cert": stranger}) == (401, "invalid_client")
            assert await answer(**{"Client-Cert": "x"}) == (400, "invalid_request")
            assert await answer(**{"X-Forwarded-Proto": "http"}) == (400, "invalid_request")


def answer_is(
    answer: Callable[[], Awaitable[tuple[int, str]]], wanted: tuple[int, str]
) -> Callable[[], Awaitable[bool]]:
    async def compare() -> bool:
        return await answer() == wanted

    return compare


async def test_assertion_identifies_a_caller_once(site: Site) -> None:
    await register(site, "keyed", rights=[may_issue("keyed")], **KEYED)
    async with site.proved(*assertion("keyed", "first")) as api:
        assert (await api.issue("keyed", client_id="keyed")).access_token
        assert (await refused(api.issue("keyed", client_id="keyed"))).reason == "CALLER_UNAUTHENTICATED"
    for number, aud in enumerate(("https://other", [ISSUER], [ISSUER, "https://other"])):
        async with site.proved(*assertion("keyed", f"aud-{number}", aud)) as api:
            assert (await refused(api.issue("keyed", client_id="keyed"))).code.name == "UNAUTHENTICATED"


async def test_access_token_of_a_client_for_itself_identifies_it_until_it_is_revoked(site: Site) -> None:
    secret = await register(site, "worker", rights=[may_issue("worker")], **CONFIDENTIAL)
    async with site.proved(basic("worker", secret)) as api:
        own = await api.issue("worker", client_id="worker", audience=[ISSUER], token_types=[ACCESS])
    async with site.proved(bearer(own.access_token)) as api:
        assert (await api.issue("worker", client_id="worker")).access_token
        await api.revoke(token=own.access_token)
        assert (await refused(api.issue("worker", client_id="worker"))).code.name == "UNAUTHENTICATED"


async def test_token_of_a_user_does_not_identify_its_client(site: Site) -> None:
    async with site.api(site.authority.caller(spiffe_id=LOGIN)) as login:
        issued = await login.issue("alice", client_id="web", audience=[ISSUER])
    async with site.proved(bearer(issued.access_token)) as api:
        failure = await refused(api.issue("alice", client_id="web"))
        assert failure.code.name == "UNAUTHENTICATED"


async def test_workloads_are_identified_by_their_tokens(site: Site) -> None:
    svid = signed(sub=LOGIN, aud=[ISSUER])
    async with site.proved(bearer(svid)) as api:
        issued = await api.issue("alice", client_id="web", audience=["api"])
        assert (await refused(api.validate(issued.access_token))).reason == "PERMISSION_DENIED"
    account = signed(iss="https://kubernetes.default.svc", sub=ACCOUNT, aud=[ISSUER])
    async with site.proved(bearer(account)) as api:
        assert await api.why(issued.access_token) == ""
        assert (await refused(api.issue())).reason == "PERMISSION_DENIED"
    for wrong in (
        signed(sub=LOGIN, aud=["https://other"]),
        signed(sub="spiffe://example.org/unknown", aud=[ISSUER]),
        signed(sub="spiffe://evil.org/login", aud=[ISSUER]),
        signed(iss="https://kubernetes.default.svc", sub="system:serviceaccount:prod:other", aud=[ISSUER]),
    ):
        async with site.proved(bearer(wrong)) as api:
            assert (await refused(api.issue())).code.name == "UNAUTHENTICATED"


async def test_call_without_a_proof_is_refused_but_health_and_keys_are_open(site: Site) -> None:
    async with site.proved() as api:
        assert (await refused(api.issue())).reason == "CALLER_UNAUTHENTICATED"
        assert (await api.keys.GetKeySet(key_service_pb2.GetKeySetRequest(), timeout=TIMEOUT)).key_set.keys
        health = await api.health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT)
        assert health.status == health_pb2.HealthCheckResponse.SERVING


async def test_two_proofs_in_one_call_are_refused(site: Site) -> None:
    secret = await register(site, "double", rights=[may_issue("double")], **CONFIDENTIAL)
    request = {"timeout": TIMEOUT, "metadata": (basic("double", secret),)}
    issue = token_service_pb2.IssueTokenRequest(subject="double", client_id="double")
    async with site.api(site.authority.caller(spiffe_id=LOGIN)) as certificate:
        tokens: Any = certificate.tokens
        failure = await refused(tokens.IssueToken(issue, **request))
        assert failure.code.name == "UNAUTHENTICATED"
        assert "more than one proof" in failure.message
    for metadata in (
        (basic("double", secret), bearer(signed(sub=LOGIN, aud=[ISSUER]))),
        (basic("double", secret), *assertion("double", "1")),
    ):
        async with site.proved(*metadata) as api:
            assert "more than one proof" in (await refused(api.issue("double", client_id="double"))).message


async def test_disabling_a_client_ends_its_open_stream(site: Site) -> None:
    rights = [pb.Right(permission="subscribe", unbounded=True)]
    secret = await register(site, "follower", rights=rights, **CONFIDENTIAL)
    async with site.proved(basic("follower", secret)) as api:
        async with Follower(api, subscriber_id="v-1") as follower:
            await eventually(lambda: follower.caught_up)
            await end(site, "follower")
            failure = await follower.ended()
            assert (failure.code.name, failure.metadata) == ("PERMISSION_DENIED", {"permission": "subscribe"})
        assert (await refused(api.issue("follower", client_id="follower"))).code.name == "UNAUTHENTICATED"


async def test_certificate_of_a_registered_client_identifies_it(site: Site) -> None:
    name = "spiffe://example.org/batch"
    await register(
        site,
        "batch",
        rights=[may_issue("batch")],
        token_endpoint_auth_method=pb.TOKEN_ENDPOINT_AUTH_METHOD_TLS_CLIENT_AUTH,
        tls_client_auth_san_uri=name,
    )
    async with site.api(site.authority.caller(spiffe_id=name)) as api:
        assert (await api.issue("batch", client_id="batch")).access_token
        assert (await refused(api.issue("web", client_id="web"))).reason == "PERMISSION_DENIED"
        await end(site, "batch")

        async def ended() -> bool:
            return (await refused(api.issue("batch", client_id="batch"))).code.name == "UNAUTHENTICATED"

        await eventually(ended)


async def test_wrong_secrets_are_slowed_down_and_recorded(site: Site) -> None:
    await register(site, "guessed", **CONFIDENTIAL)
    async with site.proved(basic("guessed", "tscs_wrong")) as api:
        codes = [(await refused(api.issue())).code.name for _ in range(12)]
    assert codes == ["UNAUTHENTICATED"] * 10 + ["RESOURCE_EXHAUSTED"] * 2
    listed = site.run("audit", "list", "--client", "guessed", "-o", "json")
    assert listed.stdout.count("client.authentication_failed") == 10
    assert "tscs_" not in listed.stdout


async def test_secret_in_the_place_of_the_client_id_is_not_logged(site: Site) -> None:
    secret = await register(site, "swapped", **CONFIDENTIAL)
    async with site.proved(basic(secret, "swapped")) as api:
        assert (await refused(api.issue())).code.name == "UNAUTHENTICATED"
    digest = hashlib.sha256(secret.encode()).hexdigest()
    await eventually(lambda: digest in site.node.log_text())
    assert secret[5:45] not in site.node.log_text()


SUBSCRIBE = pb.Right(permission="subscribe", unbounded=True)


async def test_replacing_a_secret_ends_the_streams_that_the_old_one_opened(site: Site) -> None:
    secret = await register(site, "rotated", rights=[SUBSCRIBE], **CONFIDENTIAL)
    async with site.proved(basic("rotated", secret)) as api:
        async with Follower(api, subscriber_id="v-1") as follower:
            await eventually(lambda: follower.caught_up)
            site.run("clients", "rotate-secret", "rotated", "--overlap", "0s")
            assert (await follower.ended()).code.name == "PERMISSION_DENIED"
        assert (await refused(api.issue("rotated", client_id="rotated"))).code.name == "UNAUTHENTICATED"


async def test_revoking_a_bearer_token_ends_the_streams_that_it_opened(site: Site) -> None:
    rights = [may_issue("tailing"), SUBSCRIBE]
    secret = await register(site, "tailing", rights=rights, **CONFIDENTIAL)
    async with site.proved(basic("tailing", secret)) as api:
        own = await api.issue("tailing", client_id="tailing", audience=[ISSUER], token_types=[ACCESS])
        async with (
            site.proved(bearer(own.access_token)) as by_token,
            Follower(by_token, subscriber_id="v-1") as follower,
        ):
            await eventually(lambda: follower.caught_up)
            await api.revoke(token=own.access_token)
            assert (await follower.ended()).code.name == "UNAUTHENTICATED"


async def test_login_service_gets_no_token_that_acts_as_its_client(site: Site) -> None:
    await register(site, "web", rights=[pb.Right(permission="admin.read", unbounded=True)], **CONFIDENTIAL)
    async with site.api(site.authority.caller(spiffe_id=LOGIN)) as login:
        failure = await refused(login.issue("web", client_id="web", audience=[ISSUER]))
        assert (failure.reason, failure.metadata) == ("PERMISSION_DENIED", {"permission": "admin.write"})
        assert (await login.issue("alice", client_id="web", audience=[ISSUER])).access_token
