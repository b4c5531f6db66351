"""Callers of a production node: by certificate on one port, and by a proof in the metadata on the other."""

from __future__ import annotations

import hashlib
import json
import ssl
from base64 import b64encode
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives import serialization
from grpc_health.v1 import health_pb2

from tests.integration.callers_site import (
    ACCOUNT,
    CONFIDENTIAL,
    ISSUER,
    KEY,
    KEYED,
    LOGIN,
    OPERATOR,
    Site,
    assertion,
    basic,
    bearer,
    command,
    end,
    may_issue,
    register,
    signed,
    site_in,
)
from tests.integration.calls import ACCESS, TIMEOUT, Follower, refused
from tests.integration.nodes import Node
from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually
from token_service.v1 import (
    client_service_pb2 as pb,
    key_service_pb2,
    session_service_pb2,
    token_service_pb2,
)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, shared_postgres_url: str) -> Iterator[Site]:
    with site_in(tmp_path_factory.mktemp("callers"), shared_postgres_url) as made:
        yield made


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

    def listed() -> str:
        return site.run("audit", "list", "--client", "guessed", "-o", "json").stdout

    # The rows of refusals are written in batches, up to 0.25 s after the answers.
    await eventually(lambda: listed().count("client.authentication_failed") >= 10)
    assert listed().count("client.authentication_failed") == 10
    assert "tscs_" not in listed()


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


async def test_commands_prove_their_caller_over_tls(site: Site, tmp_path: Path) -> None:
    admin = [pb.Right(permission=name, unbounded=True) for name in ("admin", "revoke", "validate")]
    secret = await register(site, "ops", rights=[*admin, may_issue("ops")], **CONFIDENTIAL)
    await register(site, "ops-keyed", rights=admin, **KEYED)
    (tmp_path / "secret").write_text(f"{secret}\n")
    pem = KEY.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (tmp_path / "key").write_bytes(pem)
    by_secret = {"CLIENT_ID": "ops", "CLIENT_SECRET_FILE": str(tmp_path / "secret")}
    by_key = {"CLIENT_ID": "ops-keyed", "CLIENT_KEY_FILE": str(tmp_path / "key"), "ISSUER": ISSUER}

    issue = ("tokens", "issue", "--subject", "ops", "--client-id", "ops")
    code, printed, said = command(site, *issue, "--audience", ISSUER, "-o", "json", **by_secret)
    assert code == 0, said
    issued = json.loads(printed)
    token = issued["access_token"]
    for proof in (by_secret, by_key, {"ACCESS_TOKEN": token}):
        code, printed, said = command(site, "clients", "get", "ops", "-o", "json", **proof)
        assert (code, json.loads(printed or "{}").get("client_id")) == (0, "ops"), said
    code, printed, said = command(site, "sessions", "list", "--subject", "ops", **by_key)
    assert (code, issued["session_id"] in printed) == (0, True), said
    assert command(site, "tokens", "validate", stdin=token, **by_secret)[0] == 0
    revoke = ("tokens", "revoke", "--session", issued["session_id"], "--wait", "10s")
    assert command(site, *revoke, **by_secret)[0] == 0
    code, printed, said = command(site, "tokens", "validate", "--strong", stdin=token, **by_secret)
    assert (code, "REVOKED" in printed) == (6, True), said

    assert command(site, "keys", "list")[0] == 3  # no proof
    assert command(site, "keys", "list", CLIENT_ID="ops", CLIENT_SECRET_FILE="/dev/null")[0] == 2
    assert command(site, "keys", "list", CLIENT_ID="ops", CLIENT_SECRET="tscs_wrong")[0] == 3
    assert command(site, "clients", "get", "unknown", **by_secret)[0] == 4
    code, _, said = command(site, "keys", "list", TARGET=site.node.grpc_address, **by_secret)
    assert (code, "--tls-cert and --tls-key" in said) == (5, True), said
    operator = site.authority.caller(spiffe_id=OPERATOR)
    (tmp_path / "cert.pem").write_bytes(operator.certificate)
    (tmp_path / "key.pem").write_bytes(operator.key)
    by_certificate = {
        "TARGET_TLS_CERT": str(tmp_path / "cert.pem"),
        "TARGET_TLS_KEY": str(tmp_path / "key.pem"),
    }
    code, printed, said = command(site, "keys", "list", TARGET=site.node.grpc_address, **by_certificate)
    assert (code, "active" in printed) == (0, True), said
