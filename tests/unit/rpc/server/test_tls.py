"""Real handshakes: accepted peers, their identities, and changes of the files."""

from __future__ import annotations

import asyncio
import datetime as dt
import ipaddress
import logging
import os
import socket
import ssl
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from cryptography.x509.oid import NameOID

from tests.unit.core.node import Node
from tests.unit.rpc.serving import TIMEOUT, Failure, Served, refused, serving
from token_service.certificates.server import TlsFiles
from token_service.certificates.verification import CertificateVerifier
from token_service.clock import SystemClock
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.policies.rights import Permission
from token_service.errors import CallerUnauthenticatedError, ConfigurationError
from token_service.rpc.server.authorizer import Peer
from token_service.rpc.server.certificate_authorizer import CertificateAuthorizer
from token_service.rpc.server.tls import ReloadingCredentials
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationTarget
from token_service.v1 import (
    key_service_pb2,
    key_service_pb2_grpc,
    token_service_pb2 as pb,
    token_service_pb2_grpc,
)

Name = x509.GeneralName


class Pair:
    """A certificate and its key."""

    def __init__(
        self, names: Sequence[Name] = (), issuer: Pair | None = None, common_name: str = "test"
    ) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
        now = dt.datetime.now(dt.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.certificate.subject if issuer else subject)
            .public_key(self.key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
            .add_extension(x509.BasicConstraints(ca=issuer is None, path_length=None), critical=True)
        )
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        self.certificate: x509.Certificate = builder.sign(issuer.key if issuer else self.key, SHA256())

    @property
    def chain(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def private_key(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


AUTHORITY = Pair(common_name="authority")
STRANGER = Pair(common_name="stranger")


def server_pair(authority: Pair = AUTHORITY) -> Pair:
    return Pair([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))], authority)


def write(directory: Path, pair: Pair, client_ca: Pair | None = None) -> TlsFiles:
    chain, key = directory / "chain.pem", directory / "key.pem"
    chain.write_bytes(pair.chain)
    key.write_bytes(pair.private_key)
    if client_ca is None:
        return TlsFiles(chain, key)
    authority = directory / "ca.pem"
    authority.write_bytes(client_ca.chain)
    return TlsFiles(chain, key, authority)


def channel(served: Served, client: Pair | None = None, authority: Pair = AUTHORITY) -> grpc.aio.Channel:
    credentials = grpc.ssl_channel_credentials(
        authority.chain, client.private_key if client else None, client.chain if client else None
    )
    return grpc.aio.secure_channel(served.address, credentials, [("grpc.use_local_subchannel_pool", 1)])


async def validate(served: Served, client: Pair | None = None, authority: Pair = AUTHORITY) -> Any:
    """Return the answer to a call over a new connection, or its failure."""
    async with channel(served, client, authority) as connection:
        stub: Any = token_service_pb2_grpc.TokenServiceStub(connection)
        try:
            return await stub.ValidateToken(pb.ValidateTokenRequest(token="x"), timeout=TIMEOUT)
        except grpc.aio.AioRpcError as error:
            return Failure(error)


async def test_without_client_certificates_tls_only_encrypts(tmp_path: Path) -> None:
    async with serving(tls=write(tmp_path, server_pair())) as served:
        assert (await validate(served)).cursor
        assert (await validate(served, authority=STRANGER)).code == "UNAVAILABLE"


@pytest.mark.parametrize(
    ("names", "outcome"),
    [
        ([x509.UniformResourceIdentifier("spiffe://example.org/gateway")], None),
        ([x509.DNSName("gateway.internal")], None),
        ([x509.DNSName("unknown.internal"), x509.DNSName("gateway.internal")], None),
        ([x509.UniformResourceIdentifier("spiffe://example.org/login")], "PERMISSION_DENIED"),
        ([x509.DNSName("unknown.internal")], "CALLER_UNAUTHENTICATED"),
        ([x509.DNSName("spiffe")], "CALLER_UNAUTHENTICATED"),
        ([], "CALLER_UNAUTHENTICATED"),
    ],
    ids=str,
)
async def test_callers_are_told_apart_by_their_certificates(
    tmp_path: Path, names: list[Name], outcome: str | None
) -> None:
    authorizer = CertificateAuthorizer(
        {
            "spiffe://example.org/gateway": Rights.of(Permission.VALIDATE),
            "gateway.internal": Rights.of(Permission.VALIDATE),
            "spiffe://example.org/login": Rights.of(Permission.ISSUE),
        },
        CertificateVerifier([AUTHORITY.certificate], SystemClock()),
    )
    async with serving(tls=write(tmp_path, server_pair(), AUTHORITY), authorizer=authorizer) as served:
        client = Pair(names, AUTHORITY, common_name="gateway.internal")
        answer = await validate(served, client)
        assert answer.cursor if outcome is None else answer.reason == outcome
        async with channel(served, client) as connection:  # every authenticated caller may read the keys
            keys: Any = key_service_pb2_grpc.KeyServiceStub(connection)
            assert (await keys.GetKeySet(key_service_pb2.GetKeySetRequest())).key_set.keys


async def test_only_its_own_caller_confirms_for_a_subscriber(tmp_path: Path) -> None:
    subscribe = Rights.of(Permission.SUBSCRIBE)
    authorizer = CertificateAuthorizer(
        {"one.internal": subscribe, "two.internal": subscribe},
        CertificateVerifier([AUTHORITY.certificate], SystemClock()),
    )
    async with serving(tls=write(tmp_path, server_pair(), AUTHORITY), authorizer=authorizer) as served:
        subscribers = served.node.subscribers

        async def confirm(client: Pair, cursor: str) -> None:
            async with channel(served, client) as connection:
                stub: Any = token_service_pb2_grpc.TokenServiceStub(connection)
                request = pb.ConfirmRevocationsRequest(
                    subscriber_id="v-1", applied_cursor=cursor, key_set_revision=7
                )
                await stub.ConfirmRevocations(request, timeout=TIMEOUT)

        one, two = (
            Pair([x509.DNSName(f"{name}.internal"), x509.DNSName("site.internal")], AUTHORITY)
            for name in ("one", "two")
        )
        renewed = Pair([x509.DNSName("site.internal"), x509.DNSName("one.internal")], AUTHORITY)
        async with (
            channel(served, one) as connection,
            served.follow(subscriber_id="v-1", channel=connection) as reader,
        ):
            await reader.caught_up()
            cursor = (await served.node.revoke(target=RevocationTarget.SUBJECT, value="a")).cursor
            await confirm(two, str(cursor))
            assert subscribers.counts(cursor.sequence) == (1, 0)
            assert subscribers.key_revision == 0
            authorizer.callers = {
                **authorizer.callers,
                "site.internal": subscribe,
            }  # it is still the same one
            await confirm(renewed, str(cursor))
            assert subscribers.counts(cursor.sequence) == (1, 1)
            assert subscribers.key_revision == 7
            # Two callers with the same subscriber id are two subscribers.
            async with (
                channel(served, two) as other,
                served.follow(subscriber_id="v-1", channel=other) as second,
            ):
                await second.caught_up()
                assert subscribers.counts(cursor.sequence) == (2, 1)


async def test_only_certificates_of_the_authority_get_in(tmp_path: Path) -> None:
    async with serving(tls=write(tmp_path, server_pair(), AUTHORITY)) as served:
        gateway = [x509.DNSName("gateway.internal")]
        assert (await validate(served, Pair(gateway, AUTHORITY))).cursor
        for client in (None, Pair(gateway, STRANGER), Pair(gateway)):
            assert (await validate(served, client)).code == "UNAVAILABLE"


async def test_changed_files_are_taken_up_while_the_server_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    other = Pair(common_name="other authority")
    async with serving(tls=write(tmp_path, server_pair())) as served:
        assert (await validate(served)).cursor
        with caplog.at_level(logging.INFO, "token_service.certificates.server"):
            write(tmp_path, server_pair(other))
            assert (await validate(served, authority=other)).cursor
            assert (await validate(served)).code == "UNAVAILABLE"
            (tmp_path / "chain.pem").write_bytes(server_pair(AUTHORITY).chain)  # of another key
            assert (await validate(served, authority=other)).cursor
            assert (await validate(served, authority=other)).cursor
            (tmp_path / "chain.pem").unlink()
            assert (await validate(served, authority=other)).cursor
            write(tmp_path, server_pair())
            assert (await validate(served)).cursor
        levels = [record.levelname for record in caplog.records]
        assert levels == ["INFO", "ERROR", "ERROR", "INFO"]


@pytest.mark.parametrize("damage", ["missing", "garbage", "mismatch", "encrypted", "authority"])
def test_files_that_can_not_be_used_are_refused_at_start(tmp_path: Path, damage: str) -> None:
    pair = server_pair()
    files = write(tmp_path, pair, AUTHORITY)
    if damage == "missing":
        files.private_key.unlink()
    elif damage == "garbage":
        files.certificate_chain.write_bytes(b"\xff not PEM")
    elif damage == "mismatch":
        files.private_key.write_bytes(server_pair().private_key)
    elif damage == "encrypted":
        encryption = BestAvailableEncryption(b"x")
        files.private_key.write_bytes(pair.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    else:
        assert files.client_ca is not None
        files.client_ca.write_bytes(b"")
    with pytest.raises(ConfigurationError, match="the TLS files can't be used"):
        ReloadingCredentials(files).credentials()


def dated(pair: Pair, start: dt.timedelta, end: dt.timedelta) -> bytes:
    now = dt.datetime.now(dt.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(pair.certificate.subject)
        .issuer_name(pair.certificate.subject)
        .public_key(pair.key.public_key())
        .serial_number(1)
        .not_valid_before(now + start)
        .not_valid_after(now + end)
        .sign(pair.key, SHA256())
    )
    return made.public_bytes(Encoding.PEM)


@pytest.mark.parametrize(
    ("start", "end", "says"),
    [(-2, -1, "expired at"), (1, 2, "valid only from"), (-1, 1, None)],
)
def test_a_certificate_out_of_its_time_is_warned_of(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, start: int, end: int, says: str | None
) -> None:
    pair = server_pair()
    files = write(tmp_path, pair)
    chain = dated(pair, dt.timedelta(days=start), dt.timedelta(days=end))
    files.certificate_chain.write_bytes(chain)
    ReloadingCredentials(files).load()
    warnings = [record.getMessage() for record in caplog.records]
    assert len(warnings) == (says is not None)
    if says is not None:
        assert says in warnings[0]
        assert f"{files.certificate_chain} (TOKEN_SERVICE_TLS_CERT_FILE)" in warnings[0]


@pytest.mark.parametrize("which", ["certificate_chain", "private_key", "client_ca"])
@pytest.mark.parametrize("what", ["pipe", "directory", "missing", "large"])
def test_invalid_tls_files_are_refused_at_once(tmp_path: Path, which: str, what: str) -> None:
    files = write(tmp_path, server_pair(), AUTHORITY)
    path = getattr(files, which)
    path.unlink()
    if what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "large":
        path.write_bytes(b"#" * (1024 * 1024 + 1))
    says = {
        "pipe": "not a regular file",
        "directory": "Is a directory",
        "missing": "No such file or directory",
        "large": "larger than 1048576 bytes",
    }
    with pytest.raises(ConfigurationError) as caught:
        ReloadingCredentials(files).load()
    assert caught.value.message == f"the TLS files can't be used: {path}: {says[what]}"


# --- Expired and withdrawn certificates ----------------------------------------------------------------------------------------

GATEWAY = [x509.DNSName("gateway.internal")]


class AheadClock:
    """The clocks of this machine, with the wall clock set ahead."""

    ahead = 0.0

    def now(self) -> float:
        return time.time() + self.ahead

    def monotonic(self) -> float:
        return time.monotonic()


class RecordingAuthorizer(CertificateAuthorizer):
    """An authorizer that records for each call whether its TLS session was resumed, and the caller."""

    def __init__(self, clock: AheadClock) -> None:
        permissions = Rights.of(Permission.VALIDATE, Permission.SUBSCRIBE)
        super().__init__(
            {"gateway.internal": permissions}, CertificateVerifier([AUTHORITY.certificate], clock)
        )
        self.seen: list[tuple[bool, str]] = []

    def identify(self, peer: Peer) -> Caller:
        resumed = peer.auth_context().get("ssl_session_reused") == [b"true"]
        try:
            caller = super().identify(peer)
        except CallerUnauthenticatedError as error:
            self.seen.append((resumed, error.message))
            raise
        self.seen.append((resumed, caller.name))
        return caller


class RawClient:
    """Calls ValidateToken over resumed TLS sessions, which gRPC clients do not do on demand."""

    def __init__(self, address: str, directory: Path, version: ssl.TLSVersion) -> None:
        host, _, port = address.rpartition(":")
        self._address = host, int(port)
        client = Pair(GATEWAY, AUTHORITY)
        (directory / "client.pem").write_bytes(client.chain + client.private_key)
        self._context = ssl.create_default_context(cadata=AUTHORITY.chain.decode())
        self._context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._context.load_cert_chain(directory / "client.pem")
        self._context.set_alpn_protocols(["h2"])
        self._context.minimum_version = self._context.maximum_version = version

    def call(self, session: ssl.SSLSession | None = None) -> ssl.SSLSession | None:
        """Make one call on a new connection and return its TLS session."""
        with (
            socket.create_connection(self._address, TIMEOUT) as plain,
            self._context.wrap_socket(plain, server_hostname="127.0.0.1", session=session) as connection,
        ):
            assert connection.session_reused is (session is not None)
            fields = {
                b":path": b"/token_service.v1.TokenService/ValidateToken",
                b":authority": b"localhost",
                b"content-type": b"application/grpc",
                b"te": b"trailers",
            }
            literals = b"".join(
                b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value
                for name, value in fields.items()
            )
            headers = b"\x83\x87" + literals  # :method POST, :scheme https
            connection.sendall(
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
                + _frame(4, 0, 0, b"")
                + _frame(1, 4, 1, headers)
                + _frame(0, 1, 1, b"\0" + (0).to_bytes(4))
            )  # fmt: skip
            received = b""
            while not _has_ended(received):
                received += connection.recv(65536)
            return connection.session


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3) + bytes((kind, flags)) + stream.to_bytes(4) + payload


def _has_ended(data: bytes) -> bool:
    """Return whether HTTP/2 frames end stream 1 with END_STREAM or RST_STREAM."""
    at = 0
    while len(data) - at >= 9:
        kind, flags, stream = data[at + 3], data[at + 4], int.from_bytes(data[at + 5 : at + 9])
        if stream == 1 and (kind == 3 or (kind in {0, 1} and flags & 1)):
            return True
        at += 9 + int.from_bytes(data[at : at + 3])
    return False


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_3, ssl.TLSVersion.TLSv1_2], ids=lambda v: v.name)
async def test_resumed_tls_session_has_the_permissions_of_its_certificate(
    tmp_path: Path, version: ssl.TLSVersion
) -> None:
    clock = AheadClock()
    authorizer = RecordingAuthorizer(clock)
    async with serving(tls=write(tmp_path, server_pair(), AUTHORITY), authorizer=authorizer) as served:
        client = RawClient(served.address, tmp_path, version)
        session = await asyncio.to_thread(client.call)
        session = await asyncio.to_thread(client.call, session)
        clock.ahead = 3601
        await asyncio.to_thread(client.call, session)
        clock.ahead = 0
        authorizer._certificates.authorities = [STRANGER.certificate]
        await asyncio.to_thread(client.call, session)
    assert [resumed for resumed, _ in authorizer.seen] == [False, True, True, True]
    said = [what for _, what in authorizer.seen]
    assert said[:2] == ["gateway.internal", "gateway.internal"]
    assert "has expired" in said[2]
    assert "not accepted any more" in said[3]


@pytest.mark.parametrize("change", ["certificate", "authority"])
async def test_an_open_connection_and_its_streams_end_with_the_proof(tmp_path: Path, change: str) -> None:
    clock = AheadClock()
    authorizer = RecordingAuthorizer(clock)
    node = Node(clock, algorithm=Algorithm.ES256)
    tls = write(tmp_path, server_pair(), AUTHORITY)
    async with (
        serving(node=node, tls=tls, authorizer=authorizer) as served,
        channel(served, Pair(GATEWAY, AUTHORITY)) as connection,
        served.follow(subscriber_id="v-1", channel=connection) as reader,
    ):
        await reader.caught_up()
        stub: Any = token_service_pb2_grpc.TokenServiceStub(connection)
        assert (await stub.ValidateToken(pb.ValidateTokenRequest(token="x"), timeout=TIMEOUT)).cursor
        if change == "certificate":
            clock.ahead = 3601
        else:
            authorizer._certificates.authorities = [STRANGER.certificate]
        failure = await refused(stub.ValidateToken(pb.ValidateTokenRequest(token="x"), timeout=TIMEOUT))
        assert (failure.code, failure.reason) == ("UNAUTHENTICATED", "CALLER_UNAUTHENTICATED")
        ended = await reader.ended()
        assert ended.reason in {"CALLER_UNAUTHENTICATED", "PERMISSION_DENIED"}
