"""Client certificates that are replaced while a validator runs."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.client.connecting import config_for, server_credentials
from tests.support.both_validators import AnyValidator
from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.manual_clock import ManualClock
from tests.support.token_mint import Mint
from token_service.client._internal.clock import SystemValidatorClock
from token_service.client._internal.connection import Connection, SyncConnection
from token_service.client._internal.contact import Contact
from token_service.client._internal.counters import Counters
from token_service.client._internal.credentials import CredentialFiles, TlsCredentials
from token_service.client._internal.following.state import FollowerState
from token_service.client.config import Freshness, ServiceIssuer
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    DeadlineExceededError,
    PermissionDeniedError,
    Reason,
    ServiceError,
    UnreachableError,
)
from token_service.v1.key_service_pb2 import GetKeySetRequest
from token_service.v1.token_service_pb2 import ValidateTokenRequest

ID = "spiffe://example.org/validator"


class Site:
    """A service that requires client certificates, and the files of a validator."""

    def __init__(self, directory: Path) -> None:
        self.ours = Authority("Of the service")
        self.callers = Authority("Of callers")
        self.server = self.ours.server()
        self.files = CredentialFiles(
            roots=directory / "roots.pem",
            certificate_chain=directory / "cert.pem",
            private_key=directory / "key.pem",
        )
        (directory / "roots.pem").write_bytes(self.ours.certificate)
        self._directory = directory
        self.service = FakeTokenService(credentials=server_credentials(self.server, callers=self.callers))

    def install(self, certificate: Certificate) -> None:
        """Replace the files, each atomically."""
        for name, content in (("key.pem", certificate.key), ("cert.pem", certificate.certificate)):
            scratch = self._directory / f".{name}"
            scratch.write_bytes(content)
            scratch.replace(self._directory / name)

    async def replace_authority(self) -> None:
        """Restart the service with another authority for callers, which refuses all earlier certificates."""
        await asyncio.to_thread(self.service.stop)
        self.callers = Authority("Of callers, the next one")
        self.service.credentials = server_credentials(self.server, callers=self.callers)
        await asyncio.to_thread(self.service.start)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    site = Site(tmp_path)
    with site.service:
        yield site


async def test_an_expired_certificate_is_replaced(site: Site, kind: str) -> None:
    site.install(site.callers.caller(spiffe_id=ID, lifetime=-60))
    async with AnyValidator(kind, config_for(site.service, credentials=site.files)) as validator:
        await eventually(lambda: validator.counters.probe_failures >= 3)
        assert validator.status().last_error_reason is Reason.UNREACHABLE
        assert validator.is_fresh is False
        site.install(site.callers.caller(spiffe_id=ID))
        assert await validator.wait_ready(raise_on_timeout=True)
        assert (await validator.validate(site.service.mint.token(time.time()))).subject == "user-1"


async def test_a_validator_outlives_the_authority_of_its_certificate(site: Site, kind: str) -> None:
    service = site.service
    site.install(site.callers.caller(spiffe_id=ID))
    async with AnyValidator(
        kind, config_for(service, credentials=site.files, key_refresh_interval=0.0)
    ) as validator:
        assert await validator.wait_ready()
        await site.replace_authority()
        await eventually(lambda: validator.status().last_error_reason is Reason.UNREACHABLE)
        service.revoke(token_id="meanwhile")
        site.install(site.callers.caller(spiffe_id=ID))
        await eventually(lambda: validator.status().connected and validator.counters.revocations == 1)
        # All four methods that a validator calls use the new channel.
        probes = len(service.probes)
        service.revoke(token_id="later")
        await eventually(lambda: len(service.probes) > probes and validator.counters.revocations == 2)
        await eventually(lambda: validator.is_fresh)
        other = Mint("ES256", "other")
        service.hold_streams = True
        service.rotate_keys(service.mint.jwk, other.jwk)
        assert (await validator.validate(other.token(time.time()))).key_id == other.jwk["kid"]
        assert service.key_set_calls == 1
    async with AnyValidator(
        kind, config_for(service, credentials=site.files, freshness=Freshness(bound=9.0, probe_timeout=9.0))
    ) as validator:
        service.hold_streams, service.refuse_probes = False, True
        await eventually(lambda: validator.counters.key_sets == 1)
        await validator.validate(service.mint.token(time.time()))
        assert len(service.remote_calls) == 1
        await site.replace_authority()
        site.install(site.callers.caller(spiffe_id=ID))
        await eventually(lambda: validator.status().connected)
        await validator.validate(service.mint.token(time.time(), jti="another"))
        assert len(service.remote_calls) == 2


async def test_unusable_files_leave_the_previous_credentials_in_use(
    site: Site, kind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = site.callers.caller(spiffe_id=ID)
    site.install(first)
    async with AnyValidator(kind, config_for(site.service, credentials=site.files)) as validator:
        assert await validator.wait_ready()
        (tmp_path / "cert.pem").write_bytes(site.callers.caller(spiffe_id=ID).certificate)
        await asyncio.to_thread(site.service.stop)
        await eventually(lambda: "the private key does not belong to the certificate" in caplog.text)
        assert "the previous credentials stay in use" in caplog.text
        await asyncio.to_thread(site.service.start)
        await eventually(lambda: validator.status().connected)
        assert first.key.decode() not in caplog.text


async def test_unreadable_credentials_fail_the_start(site: Site, kind: str) -> None:
    config = config_for(site.service, credentials=site.files)  # nothing is installed
    with pytest.raises(ConfigurationError, match=r"ServiceIssuer\.credentials can't be read.*cert\.pem"):
        await AnyValidator(kind, config).__aenter__()


def test_unusable_credentials_are_refused_and_the_key_hidden() -> None:
    one, other = Authority().caller(spiffe_id=ID), Authority().caller(spiffe_id=ID)
    good = TlsCredentials(certificate_chain=one.certificate, private_key=one.key)
    assert one.key.decode().splitlines()[1] not in repr(good)
    with pytest.raises(ConfigurationError, match="the private key does not belong to the certificate"):
        TlsCredentials(certificate_chain=one.certificate, private_key=other.key)
    with pytest.raises(ConfigurationError, match="both certificate_chain and private_key"):
        TlsCredentials(certificate_chain=one.certificate)
    with pytest.raises(ConfigurationError, match="can't be used"):
        TlsCredentials(roots=b"no PEM")
    with pytest.raises(ConfigurationError, match="can't be used"):
        TlsCredentials(certificate_chain=b"no PEM", private_key=one.key)
    with pytest.raises(ConfigurationError, match="can't be used"):
        TlsCredentials(certificate_chain=one.certificate, private_key=b"no PEM")


class AnyConnection:
    """`Connection` and `SyncConnection` behind one interface."""

    def __init__(self, kind: str, issuer: ServiceIssuer) -> None:
        clock = SystemValidatorClock()
        follower_state = FollowerState(issuer.issuer, 9.0, clock, lambda _jwks, _revision: True, Counters())
        contact = Contact(issuer, clock.elapsed, follower_state)
        make: type[Any] = Connection if kind == "async" else SyncConnection
        self.real: Any = make(issuer, contact, None)

    async def do(self, name: str, *args: Any) -> Any:
        method = getattr(self.real, name)
        if isinstance(self.real, Connection):
            return await method(*args)
        return await asyncio.to_thread(method, *args)


def issuer_of(site: Site, **changes: Any) -> ServiceIssuer:
    (issuer,) = config_for(site.service, **{"credentials": site.files, **changes}).issuers
    assert isinstance(issuer, ServiceIssuer)
    return issuer


async def test_a_call_that_fails_with_old_credentials_is_repeated_with_new_ones(
    site: Site, kind: str
) -> None:
    site.install(site.callers.caller(spiffe_id=ID))
    connection = AnyConnection(kind, issuer_of(site))
    await connection.do("open")
    await site.replace_authority()
    site.install(site.callers.caller(spiffe_id=ID))
    response = await connection.do("call", "GetKeySet", GetKeySetRequest(), 30.0)
    assert response.key_set.issuer == site.service.issuer
    assert connection.real.contact.outcomes.last_error is None
    await connection.do("close")


async def test_failing_calls_read_the_credentials_at_most_once_a_second(site: Site, kind: str) -> None:
    read = 0

    def credentials() -> TlsCredentials:
        nonlocal read
        read += 1
        return TlsCredentials(roots=site.ours.certificate)

    clock = ManualClock()
    connection = AnyConnection(kind, issuer_of(site, credentials=credentials))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("token_service.client._internal.connection.monotonic", clock.elapsed)
        await connection.do("open")
        for step in (10.0, 0.5, 0.25, 0.25, 0.5):
            clock.advance(step)
            with pytest.raises(ServiceError) as caught:
                await connection.do("call", "GetKeySet", GetKeySetRequest(), 30.0)
            assert caught.value.reason is Reason.UNREACHABLE
        assert read == 3  # at the start, after 10 s and after 11 s
        await connection.do("close")


@pytest.mark.parametrize(
    ("error", "renewed"),
    [
        (UnreachableError(), True),
        (CallerUnauthenticatedError(), True),
        (PermissionDeniedError(), False),
        (DeadlineExceededError(), False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_only_connection_and_authentication_failures_renew_credentials(
    site: Site, kind: str, error: ServiceError, *, renewed: bool
) -> None:
    site.install(site.callers.caller(spiffe_id=ID))
    connection = AnyConnection(kind, issuer_of(site))
    await connection.do("open")
    old = connection.real.stubs
    site.install(site.callers.caller(spiffe_id=ID))
    assert await connection.do("renew", error, old) is renewed
    assert (connection.real.stubs is not old) is renewed
    await connection.do("close")


async def test_calls_on_the_old_channel_complete(site: Site, kind: str) -> None:
    first = site.callers.caller(spiffe_id=ID)
    site.install(first)
    connection = AnyConnection(kind, issuer_of(site))
    await connection.do("open")
    site.service.remote_gate.clear()
    request = ValidateTokenRequest(token=site.service.mint.token(time.time()))
    asking = asyncio.create_task(connection.do("call", "ValidateToken", request, 60.0))
    await eventually(lambda: len(site.service.remote_calls) == 1)
    site.install(site.callers.caller(spiffe_id=ID))
    old = connection.real.stubs
    assert await connection.do("renew", UnreachableError(), old) is True
    assert connection.real.stubs is not old
    assert (
        await connection.do("renew", UnreachableError(), old) is True
    )  # as after the failure of another call
    assert (await connection.do("call", "GetKeySet", GetKeySetRequest(), 30.0)).key_set.revision == 1
    site.service.remote_gate.set()
    assert (await asking).active is True
    await connection.do("close")


async def test_the_stream_moves_to_the_new_channel(site: Site, kind: str) -> None:
    """Holds also without a probe: the old channel is closed once its other calls have ended."""
    site.install(site.callers.caller(spiffe_id=ID))
    settings: dict[str, Any] = {
        "credentials": site.files,
        "freshness": Freshness(bound=3600.0, probe_timeout=0.05),
        "remote_timeout": 0.05,
    }
    async with AnyValidator(kind, config_for(site.service, **settings)) as validator:
        await eventually(lambda: validator.status().connected)
        connection = validator.real._service._connection  # type: ignore[union-attr]
        opened = len(site.service.stream_requests)
        site.install(site.callers.caller(spiffe_id=ID))
        renewed = connection.renew(UnreachableError(), connection.stubs)
        assert (renewed if isinstance(renewed, bool) else await renewed) is True
        await eventually(lambda: len(site.service.stream_requests) == opened + 1)
        await eventually(lambda: validator.status().connected and site.service.open_streams == 1)
        site.service.revoke(token_id="on the new one")
        await eventually(lambda: validator.counters.revocations == 1)


async def test_a_given_channel_is_neither_renewed_nor_closed(site: Site, kind: str) -> None:
    site.install(site.callers.caller(spiffe_id=ID))
    credentials = site.files().for_grpc()
    issuer = issuer_of(site)
    make = grpc.aio.secure_channel if kind == "async" else grpc.secure_channel
    channel: Any = make(site.service.address, credentials)
    connection = AnyConnection(kind, issuer)
    connection.real._given = channel
    await connection.do("open")
    site.install(site.callers.caller(spiffe_id=ID))
    assert await connection.do("renew", UnreachableError(), connection.real.stubs) is False
    await connection.do("close")
    assert (await connection.do("call", "GetKeySet", GetKeySetRequest(), 30.0)).key_set.revision == 1
    closed = channel.close()
    if closed is not None:
        await closed
