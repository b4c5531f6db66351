"""The production profile: TLS, callers identified by certificates, and a permission for every call."""

from __future__ import annotations

import asyncio
import http.client
import json
import os
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc
import pytest
from cryptography import x509

from tests.integration.calls import Api, Failure, Follower, refused
from tests.integration.nodes import Node, key_encryption_key
from tests.releases.sql import dump_postgres
from tests.support.certificates import Authority, Certificate, subject_alt_names
from tests.support.deadline import eventually
from tests.support.files import rewrite
from tests.support.preloaded import token_service as program
from tests.support.processes import http_status
from token_service.v1 import key_service_pb2, session_service_pb2, token_service_pb2

LOGIN = "spiffe://example.org/login"
GATEWAY = "gateway.example.org"
OTHER_GATEWAY = "other-gateway.example.org"
OPERATOR = "spiffe://example.org/operator"

POLICY = f"""
[callers."{LOGIN}"]
permissions = ["refresh", "revoke"]

[[callers."{LOGIN}".rights]]
permission = "issue"
clients = ["web"]
may = ["other_subjects"]

[callers."{GATEWAY}"]
permissions = ["validate", "subscribe"]

[callers."{OTHER_GATEWAY}"]
permissions = ["validate", "subscribe"]

[callers."{OPERATOR}"]
permissions = ["admin", "revoke"]
"""


@dataclass
class Production:
    node: Node
    authority: Authority
    directory: Path

    def install(self, authority: Authority, certificate: Certificate) -> None:
        """Install a certificate as a renewal tool does: each file is replaced atomically."""
        for name, content in (
            ("key.pem", certificate.key),
            ("cert.pem", certificate.certificate),
            ("client-ca.pem", authority.certificate),
        ):
            scratch = self.directory / f".{name}"
            scratch.write_bytes(content)
            scratch.replace(self.directory / name)

    def api(self, certificate: Certificate | None, authority: Authority | None = None) -> Api:
        """Return a caller with this certificate that trusts this authority."""
        credentials = grpc.ssl_channel_credentials(
            (authority or self.authority).certificate,
            certificate.key if certificate else None,
            certificate.certificate if certificate else None,
        )
        return Api(self.node.grpc_address, credentials)


@pytest.fixture(scope="module")
def production(tmp_path_factory: pytest.TempPathFactory, shared_postgres_url: str) -> Iterator[Production]:
    directory = tmp_path_factory.mktemp("production")
    (directory / "policy.toml").write_text(POLICY)
    key_file = directory / "key-encryption.key"
    key_file.touch(mode=0o600)
    key_file.write_text(key_encryption_key())
    env = {
        "TOKEN_SERVICE_PROFILE": "production",
        "TOKEN_SERVICE_HTTP_TLS": "true",
        "TOKEN_SERVICE_DATABASE_URL": shared_postgres_url,
        "TOKEN_SERVICE_ISSUER": "https://tokens.example.org",
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE": str(key_file),
        "TOKEN_SERVICE_AUDIT_KEY_FILE": str(key_file),
        "TOKEN_SERVICE_TLS_CERT_FILE": str(directory / "cert.pem"),
        "TOKEN_SERVICE_TLS_KEY_FILE": str(directory / "key.pem"),
        "TOKEN_SERVICE_TLS_CLIENT_CA_FILE": str(directory / "client-ca.pem"),
        "TOKEN_SERVICE_POLICY_FILE": str(directory / "policy.toml"),
        "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
        "TOKEN_SERVICE_LOG_FORMAT": "json",
    }
    authority = Authority()
    made = Production(Node(env=env), authority, directory)
    made.install(authority, authority.server())
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    addresses = {"TOKEN_SERVICE_GRPC_ADDRESS": "127.0.0.1:0", "TOKEN_SERVICE_HTTP_ADDRESS": "127.0.0.1:0"}

    def token_service(command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*program(), command],
            capture_output=True, text=True, timeout=60, check=False, cwd=directory,
            env={**inherited, **env, **addresses},
        )  # fmt: skip

    # In production, `serve` does not change the schema.
    unmigrated = token_service("serve")
    assert unmigrated.returncode == 2, unmigrated.stderr
    assert "token-service migrate" in unmigrated.stdout + unmigrated.stderr
    migrated = token_service("migrate")
    assert migrated.returncode == 0, migrated.stderr
    with made.node:
        yield made


def caller(production: Production, name: str) -> Certificate:
    is_uri = "://" in name
    return production.authority.caller(spiffe_id=name if is_uri else None, dns_name=None if is_uri else name)


def assert_denied(failure: Failure, permission: str) -> None:
    assert (failure.code.name, failure.reason) == ("PERMISSION_DENIED", "PERMISSION_DENIED")
    assert failure.metadata["permission"] == permission


async def test_each_caller_may_make_only_permitted_calls(production: Production) -> None:
    async with (
        production.api(caller(production, LOGIN)) as login,
        production.api(caller(production, GATEWAY)) as gateway,
        production.api(caller(production, OPERATOR)) as operator,
    ):
        issued = await login.issue()
        assert await gateway.why(issued.access_token) == ""
        refreshed = await login.refresh(issued.refresh_token)
        async with Follower(gateway) as follower:
            revoked = await login.revoke(session_id=issued.session_id)
            await follower.caught_up_to(revoked.cursor)
        assert await gateway.why(refreshed.access_token, consistency=2) == "REVOKED"
        request = session_service_pb2.GetSessionRequest(session_id=issued.session_id)
        assert (await operator.sessions.GetSession(request)).session.subject == "alice"
        listed = await operator.keys.ListSigningKeys(key_service_pb2.ListSigningKeysRequest())
        await operator.revoke(everything=True)
        assert listed.signing_keys

        assert_denied(await refused(login.validate(issued.access_token)), "validate")
        assert_denied(await refused(gateway.issue()), "issue")
        assert_denied(await refused(gateway.refresh(issued.refresh_token)), "refresh")
        assert_denied(await refused(gateway.revoke(subject="alice")), "revoke")
        assert_denied(await refused(operator.issue()), "issue")
        assert_denied(await refused(login.confirm("", "")), "subscribe")
        assert_denied(await refused(login.sessions.GetSession(request)), "admin.read")
        extend = session_service_pb2.ExtendSessionRequest(session_id=issued.session_id, client_id="web")
        assert_denied(await refused(gateway.sessions.ExtendSession(extend)), "refresh")
        # Revoking everything or a key needs more than the permission `revoke`.
        assert_denied(await refused(login.revoke(everything=True)), "admin.write")
        assert_denied(await refused(login.revoke(key_id=listed.signing_keys[0].key_id)), "admin.write")
        async with Follower(login) as denied:
            assert_denied(await denied.ended(), "subscribe")
        # A caller without the permission is refused before its input is validated.
        empty = token_service_pb2.IssueTokenRequest()
        assert_denied(await refused(gateway.tokens.IssueToken(empty, timeout=60)), "issue")
        # Every caller that can connect may read the public keys.
        for api in (login, gateway, operator):
            assert (await api.keys.GetKeySet(key_service_pb2.GetKeySetRequest())).key_set.keys


async def test_a_caller_cannot_confirm_for_the_validator_of_another(production: Production) -> None:
    """Otherwise RevokeToken would report a validator as informed although it is not."""
    async with (
        production.api(caller(production, LOGIN)) as login,
        production.api(caller(production, GATEWAY)) as gateway,
        production.api(caller(production, OTHER_GATEWAY)) as other,
    ):

        async def confirm_every_head() -> None:
            head = ""
            while True:
                head = await other.confirm("validator-1", head)
                await asyncio.sleep(0.02)

        async with Follower(gateway, subscriber_id="validator-1") as follower:
            await eventually(lambda: follower.caught_up)
            liar = asyncio.create_task(confirm_every_head())
            try:
                revoked = await login.revoke(subject="zoe", wait=1)
                assert (revoked.subscribers_connected, revoked.subscribers_applied) == (1, 0)
                # The validator's own caller may confirm over another connection, with another certificate of its name.
                async with production.api(caller(production, GATEWAY)) as renewed:
                    waiting = asyncio.create_task(login.revoke(subject="zoe", wait=20))
                    while not waiting.done():
                        await renewed.confirm("validator-1", follower.cursor)
                        await asyncio.sleep(0.02)
                known = await waiting
                assert (known.subscribers_connected, known.subscribers_applied) == (1, 1)
            finally:
                liar.cancel()
                await asyncio.wait([liar])


async def test_an_unknown_caller_may_make_no_call(production: Production) -> None:
    for certificate in (
        production.authority.caller(spiffe_id="spiffe://example.org/stranger"),
        production.authority.caller(dns_name="gateway.example.org.evil.example"),
        production.authority.caller(),
    ):
        async with production.api(certificate) as api:
            failure = await refused(api.issue())
            assert failure.code.name in {"PERMISSION_DENIED", "UNAUTHENTICATED"}
            assert failure.reason in {"PERMISSION_DENIED", "CALLER_UNAUTHENTICATED"}


async def test_a_caller_without_a_trusted_certificate_is_refused(production: Production) -> None:
    stranger = Authority("Another")
    async with (
        production.api(None) as anonymous,
        production.api(stranger.caller(spiffe_id=LOGIN)) as impostor,
        Api(production.node.grpc_address) as plain,
    ):
        for api in (anonymous, impostor, plain):
            failure = await refused(api.issue())
            assert failure.code.name in {"UNAVAILABLE", "UNAUTHENTICATED"}
            assert failure.reason in {"", "CALLER_UNAUTHENTICATED"}


async def test_a_caller_is_held_to_its_bounds(production: Production) -> None:
    async with production.api(caller(production, LOGIN)) as api:
        assert (await api.issue(client_id="web")).access_token
        failure = await refused(api.issue(client_id="billing"))
        assert failure.code.name == "PERMISSION_DENIED"
        assert failure.metadata == {"permission": "issue", "bound": "clients"}


async def test_permissions_change_with_the_policy_file(production: Production) -> None:
    newcomer = "spiffe://example.org/newcomer"
    async with production.api(caller(production, newcomer)) as api:
        assert (await refused(api.issue())).code.name in {"PERMISSION_DENIED", "UNAUTHENTICATED"}
        addition = f'\n[callers."{newcomer}"]\npermissions = ["issue"]\nunbounded = true\n'
        rewrite(production.directory / "policy.toml", POLICY + addition)

        async def permitted() -> bool:
            try:
                return bool((await api.issue()).access_token)
            except grpc.aio.AioRpcError as error:
                assert error.code().name in {"PERMISSION_DENIED", "UNAUTHENTICATED"}  # noqa: PT017
                return False

        await eventually(permitted)
        rewrite(production.directory / "policy.toml", POLICY)
        await eventually(lambda: _denied(api))


def _is_caught_up(follower: Follower) -> bool:
    return follower.caught_up


async def test_open_streams_end_when_the_permission_is_withdrawn(production: Production) -> None:
    async with (
        production.api(caller(production, GATEWAY)) as gateway,
        production.api(caller(production, OTHER_GATEWAY)) as other,
        production.api(caller(production, LOGIN)) as login,
        Follower(other, subscriber_id="v-2") as unaffected,
    ):
        policy = production.directory / "policy.toml"
        for changed in (
            POLICY.replace(f'"{GATEWAY}"]\npermissions = ["validate", "subscribe"]', f'"{GATEWAY}"]\npermissions = ["validate"]'),
            POLICY.replace(f'"{GATEWAY}"', '"somebody-else.example.org"'),
        ):  # fmt: skip
            assert changed != POLICY
            async with Follower(gateway, subscriber_id="v-1") as follower:
                await eventually(partial(_is_caught_up, follower))
                rewrite(policy, changed)
                assert_denied(await follower.ended(), "subscribe")
                revoked = await login.revoke(subject="zoe")
                await unaffected.caught_up_to(revoked.cursor)
            rewrite(policy, POLICY)

            async def permitted_again() -> bool:
                try:
                    return bool(await gateway.confirm("v-1", ""))
                except grpc.aio.AioRpcError:
                    return False

            await eventually(permitted_again)


async def _denied(api: Api) -> bool:
    try:
        await api.issue()
    except grpc.aio.AioRpcError:
        return True
    return False


def token_endpoint_refusal(production: Production, authority: Authority) -> str:
    """Return the error of an empty request to the token endpoint over TLS; empty: the certificate does not verify."""
    host, _, port = production.node.http_address.rpartition(":")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=authority.certificate.decode())
    connection = http.client.HTTPSConnection(host, int(port), timeout=60, context=context)
    try:
        connection.request("POST", "/token", headers={"Content-Type": "application/x-www-form-urlencoded"})
        return str(json.load(connection.getresponse())["error"])
    except ssl.SSLCertVerificationError:
        return ""
    finally:
        connection.close()


async def test_token_endpoint_is_served_with_tls_only(production: Production) -> None:
    assert (
        await asyncio.to_thread(token_endpoint_refusal, production, production.authority) == "invalid_client"
    )
    assert await asyncio.to_thread(token_endpoint_refusal, production, Authority()) == ""
    address = production.node.http_address
    assert await asyncio.to_thread(http_status, address, "/healthz") is None  # plain HTTP on the TLS port
    assert await asyncio.to_thread(partial(http_status, address, "/healthz", tls=True)) == 200


async def test_certificates_are_renewed_without_a_restart(production: Production) -> None:
    """The new authority replaces the old one for new connections and for open ones."""
    new = Authority("Next Authority")
    old_caller = caller(production, LOGIN)
    async with production.api(old_caller) as before:
        assert (await before.issue()).access_token
        production.install(new, new.server())

        async def taken() -> bool:
            async with production.api(new.caller(spiffe_id=LOGIN), new) as api:
                try:
                    return bool((await api.issue()).access_token)
                except grpc.aio.AioRpcError as error:
                    assert error.code().name in {"UNAVAILABLE", "UNAUTHENTICATED"}, error  # noqa: PT017
                    return False

        await eventually(taken)
        assert await eventually(lambda: asyncio.to_thread(token_endpoint_refusal, production, new))
        failure = await refused(before.issue())
        assert (failure.code.name, failure.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
    async with production.api(old_caller, new) as late:
        assert (await refused(late.issue())).code.name in {"UNAVAILABLE", "UNAUTHENTICATED"}
    production.authority = new


async def test_certificates_of_an_intermediate_authority_count_within_its_constraints(
    production: Production,
) -> None:
    constraints = x509.NameConstraints([x509.DNSName("lab.test")], None)
    lab = Authority("Lab", parent=production.authority, constraints=constraints)
    middle = Authority("Middle", parent=production.authority)
    async with production.api(middle.caller(spiffe_id=LOGIN)) as login:
        assert (await login.issue()).access_token
    # A name that the constraint allows up to its NUL, and a name that it forbids.
    for raw in (GATEWAY.encode() + b"\0.lab.test", GATEWAY.encode()):
        forged = lab.issue(raw_names=subject_alt_names((2, raw)))
        async with production.api(forged) as api:
            failure = await refused(api.confirm("v-1", ""))
            assert failure.code.name in {"UNAVAILABLE", "UNAUTHENTICATED"}


async def test_new_database_holds_no_subject_address_or_agent(
    production: Production, shared_postgres_url: str
) -> None:
    personal = ("alice-at-rest", "198.51.100.77", "agent-at-rest", "device-at-rest", "comment-at-rest")
    context = {"ip_address": "198.51.100.77", "user_agent": "agent-at-rest"}
    async with (
        production.api(caller(production, LOGIN)) as login,
        production.api(caller(production, OPERATOR)) as operator,
    ):
        issued = await login.issue(
            subject="alice-at-rest", device_id="device-at-rest", client_context=context
        )
        await login.refresh(issued.refresh_token, device_id="device-at-rest", client_context=context)
        await login.revoke(subject="alice-at-rest", comment="comment-at-rest")
        request = session_service_pb2.ListSessionsRequest(subject="alice-at-rest")
        (session,) = (await operator.sessions.ListSessions(request, timeout=60)).sessions
        assert (session.subject, session.device_id) == ("alice-at-rest", "device-at-rest")
        assert session.created_from.ip_address == "198.51.100.77"
    dumped = await asyncio.to_thread(dump_postgres, shared_postgres_url)
    assert issued.session_id in dumped
    found = [text for text in personal if text in dumped or text.encode().hex() in dumped]
    assert found == []
