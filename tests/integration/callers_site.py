"""A production node with two gRPC ports, and callers of it with each kind of proof."""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from base64 import b64encode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from tests.integration.calls import TIMEOUT, Api
from tests.integration.nodes import Node, key_encryption_key
from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually_sync
from tests.support.preloaded import token_service
from token_service.core.access.credentials import ASSERTION_TYPE
from token_service.tokens.jwk import public_jwk
from token_service.v1 import (
    client_service_pb2 as pb,
    client_service_pb2_grpc,
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
            [*token_service(), *arguments],
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


@contextmanager
def site_in(directory: Path, database_url: str) -> Iterator[Site]:
    """Run a production node whose files are in `directory`."""
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
        "TOKEN_SERVICE_DATABASE_URL": database_url,
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


def command(site: Site, *arguments: str, stdin: str = "", **variables: str) -> tuple[int, str, str]:
    """Run a command of the program at the node, on the port without client certificates."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    done = subprocess.run(
        [*token_service(), *arguments],
        input=stdin,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={
            **inherited,
            "TOKEN_SERVICE_TARGET": site.token_address,
            "TOKEN_SERVICE_TARGET_TLS_CA": site.environ["TOKEN_SERVICE_TLS_CLIENT_CA_FILE"],
            **{f"TOKEN_SERVICE_{name}": value for name, value in variables.items()},
        },
    )
    return done.returncode, done.stdout, done.stderr
