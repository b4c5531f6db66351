"""Pinned authorities and SPIFFE IDs, against real TLS servers. No request may reach a server that is not the pinned one."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.rsa import generate_private_key
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from tests.integration.client.connecting import config_for, server_credentials
from tests.support.both_validators import AnyValidator
from tests.support.certificates import Authority, Certificate
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from token_service.client import (
    ConfigurationError,
    CredentialFiles,
    ServiceIssuer,
    SyncTokenValidator,
    TlsCredentials,
    spki_pin,
)
from token_service.client._internal.tls_relay import TlsRelay

ID = "spiffe://example.org/token-service"


class Site:
    """Authorities, and services with certificates of them."""

    def __init__(self, directory: Path, stack: ExitStack) -> None:
        self.root = Authority("Root")
        self.ours = Authority("Of the token service", parent=self.root)
        self.sibling = Authority("Of other services", parent=self.root)
        self.backup = Authority("Backup")
        self.stranger = Authority("Stranger")
        self.pins = frozenset({spki_pin(self.ours.certificate), spki_pin(self.backup.certificate)})
        self.directory = directory
        self._stack = stack

    def roots(self, *authorities: Authority) -> CredentialFiles:
        path = self.directory / "roots.pem"
        scratch = self.directory / ".roots.pem"
        scratch.write_bytes(b"".join(each.certificate for each in authorities))
        scratch.replace(path)
        return CredentialFiles(roots=path)

    def serve(self, certificate: Certificate, callers: Authority | None = None) -> FakeTokenService:
        credentials = server_credentials(certificate, callers=callers)
        return self._stack.enter_context(FakeTokenService(credentials=credentials))


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with ExitStack() as stack:
        yield Site(tmp_path, stack)


async def accepts(kind: str, service: FakeTokenService, **options: Any) -> None:
    async with AnyValidator(kind, config_for(service, **options)) as validator:
        assert await validator.wait_ready(raise_on_timeout=True)
        assert (await validator.validate(service.mint.token(time.time()))).subject == "user-1"
        service.revoke(token_id="some")
        await eventually(lambda: validator.counters.revocations == 1)


async def refuses(kind: str, service: FakeTokenService, **options: Any) -> str:
    """Return the problem of a validator that reached the service's port but sent it nothing."""
    async with AnyValidator(kind, config_for(service, **options)) as validator:
        await eventually(lambda: validator.counters.probe_failures >= 3)
        status = validator.status()
    sent = [*service.probes, *service.stream_requests, *service.remote_calls]
    assert (sent, service.key_set_calls) == ([], 0)
    assert not status.connected
    assert not status.fresh
    assert status.keys_revision is None
    return status.problem


def with_id(authority: Authority, *ids: str) -> Certificate:
    return authority.issue([x509.UniformResourceIdentifier(each) for each in ids])


async def test_pinned_authority_is_trusted(site: Site, kind: str) -> None:
    service = site.serve(site.ours.server())
    await accepts(kind, service, credentials=site.roots(site.root, site.ours), pins=site.pins)


async def test_renewed_certificate_and_renewed_authority_keep_the_pin(site: Site, kind: str) -> None:
    credentials = site.roots(site.ours)
    renewed = site.ours.renewed(lifetime=7200)
    assert renewed.certificate != site.ours.certificate
    await accepts(kind, site.serve(renewed.server()), credentials=credentials, pins=site.pins)


@pytest.mark.parametrize("wrong", ["root", "sibling", "stranger"])
async def test_authority_among_the_roots_that_is_not_pinned_is_refused(
    site: Site, kind: str, wrong: str
) -> None:
    """Its certificate has the right name, and an authority that the roots trust."""
    service = site.serve(getattr(site, wrong).server())
    credentials = site.roots(site.root, site.ours, site.sibling, site.stranger)
    problem = await refuses(kind, service, credentials=credentials, pins=site.pins)
    assert "CERTIFICATE_VERIFY_FAILED" in problem


async def test_pinned_authority_does_not_replace_the_name(site: Site, kind: str) -> None:
    service = site.serve(site.ours.server("other.example"))
    problem = await refuses(kind, service, credentials=site.roots(site.ours), pins=site.pins)
    assert "Hostname Verification Check failed" in problem
    await accepts(
        kind,
        service,
        credentials=site.roots(site.ours),
        pins=site.pins,
        server_name="other.example",
    )


async def test_service_changes_to_the_backup_while_the_validator_runs(site: Site, kind: str) -> None:
    service = site.serve(site.ours.server())
    credentials = site.roots(site.ours)
    async with AnyValidator(kind, config_for(service, credentials=credentials, pins=site.pins)) as validator:
        assert await validator.wait_ready()
        await restart(service, site.stranger.server())
        site.roots(site.ours, site.stranger)  # a change of the roots can not add a pin
        failures = validator.counters.probe_failures
        await eventually(lambda: validator.counters.probe_failures >= failures + 3)
        seen = len(service.stream_requests)
        await restart(service, site.backup.server())
        site.roots(site.ours, site.backup)
        await eventually(lambda: len(service.stream_requests) > seen and validator.status().connected)


async def restart(service: FakeTokenService, certificate: Certificate) -> None:
    await asyncio.to_thread(service.stop)
    service.credentials = server_credentials(certificate)
    await asyncio.to_thread(service.start)


async def test_spiffe_id_is_the_identity_of_the_service(site: Site, kind: str) -> None:
    service = site.serve(with_id(site.ours, ID))
    await accepts(kind, service, credentials=site.roots(site.ours), spiffe_id=ID)
    await accepts(
        kind,
        service,
        credentials=site.roots(site.root, site.ours),
        spiffe_id=ID,
        pins=site.pins,
        target=f"ipv4:127.0.0.1:1,{service.address}",
    )


WRONG: dict[str, Callable[[Site], Certificate]] = {
    "another ID": lambda site: with_id(site.ours, "spiffe://example.org/other"),
    "a longer ID": lambda site: with_id(site.ours, f"{ID}/admin"),
    "another case": lambda site: with_id(site.ours, "spiffe://example.org/Token-Service"),
    "another trust domain": lambda site: with_id(site.ours, "spiffe://evil.org/token-service"),
    "two IDs": lambda site: with_id(site.ours, ID, "spiffe://example.org/other"),
    "no ID": lambda site: site.ours.server(),
    "no names": lambda site: site.ours.issue(),
    "the ID as a DNS name": lambda site: site.ours.issue([x509.DNSName(ID)]),
}


@pytest.mark.parametrize("certificate", WRONG.values(), ids=WRONG)
async def test_certificate_of_the_right_authority_with_another_identity_is_refused(
    site: Site, kind: str, certificate: Callable[[Site], Certificate]
) -> None:
    service = site.serve(certificate(site))
    problem = await refuses(kind, service, credentials=site.roots(site.ours), spiffe_id=ID)
    assert f"ServiceIssuer.spiffe_id is '{ID}'" in problem


@pytest.mark.parametrize("wrong", ["root", "sibling", "stranger"])
async def test_right_identity_of_an_authority_that_is_not_pinned_is_refused(
    site: Site, kind: str, wrong: str
) -> None:
    service = site.serve(with_id(getattr(site, wrong), ID))
    credentials = site.roots(site.root, site.ours, site.sibling, site.stranger)
    problem = await refuses(kind, service, credentials=credentials, spiffe_id=ID, pins=site.pins)
    assert "CERTIFICATE_VERIFY_FAILED" in problem


async def test_expired_certificate_with_the_right_identity_is_refused(site: Site, kind: str) -> None:
    expired = site.ours.issue([x509.UniformResourceIdentifier(ID)], lifetime=-60)
    problem = await refuses(kind, site.serve(expired), credentials=site.roots(site.ours), spiffe_id=ID)
    assert "expired" in problem


async def test_client_certificate_reaches_a_service_known_by_its_spiffe_id(site: Site, kind: str) -> None:
    service = site.serve(with_id(site.ours, ID), callers=site.backup)
    problem = await refuses(kind, service, credentials=site.roots(site.ours), spiffe_id=ID)
    assert problem
    caller = site.backup.caller(spiffe_id="spiffe://example.org/validator")
    credentials = TlsCredentials(
        roots=site.ours.certificate, certificate_chain=caller.certificate, private_key=caller.key
    )
    await accepts(kind, service, credentials=lambda: credentials, spiffe_id=ID)


async def test_large_snapshot_and_a_restart_pass_the_relay(site: Site, kind: str) -> None:
    service = site.serve(with_id(site.ours, ID))
    for number in range(20_000):
        service.revoke(token_id=f"token-{number}")
    options = {"credentials": site.roots(site.ours), "spiffe_id": ID}
    async with AnyValidator(kind, config_for(service, **options)) as validator:
        assert await validator.wait_ready(raise_on_timeout=True)
        streams = (
            validator.counters.streams
        )  # before the restart, because the validator may reconnect during it
        await restart(service, with_id(site.ours, ID))
        await eventually(lambda: validator.counters.streams > streams and validator.status().connected)
        service.revoke(token_id="later")
        await eventually(lambda: validator.counters.revocations == 1)


def test_relay_that_closes_ends_connections_just_made(site: Site) -> None:
    """A connection that stays open is closed by the garbage collector, with a warning in any later test."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        for _ in range(30):
            relay = TlsRelay(f"127.0.0.1:{silent.getsockname()[1]}", ID, lambda _reason: None)
            relay.use(site.roots(site.ours)())
            relay.start()
            with ExitStack() as stack:
                made = [stack.enter_context(socket.socket(socket.AF_UNIX)) for _ in range(5)]
                for each in made:
                    each.settimeout(60)
                    each.connect(relay.target.removeprefix("unix:"))
                relay.close()
                for each in made:
                    with suppress(ConnectionResetError):
                        assert each.recv(1) == b""


def test_no_root_that_is_pinned_is_an_error_that_names_the_pins(site: Site) -> None:
    service = site.serve(site.ours.server())
    config = config_for(service, credentials=site.roots(site.stranger), pins=site.pins)
    with pytest.raises(ConfigurationError, match="none of the 1 roots") as raised:
        SyncTokenValidator(config).start()
    assert spki_pin(site.stranger.certificate).removeprefix("sha256/") in str(raised.value)
    system = config_for(service, credentials=TlsCredentials, pins=site.pins)
    with pytest.raises(ConfigurationError, match="own roots"):
        SyncTokenValidator(system).start()


def test_given_channel_is_refused(site: Site) -> None:
    service = site.serve(site.ours.server())
    config = config_for(service, credentials=site.roots(site.ours), pins=site.pins)
    with (
        grpc.insecure_channel(service.address) as channel,
        pytest.raises(ConfigurationError, match="given"),
    ):
        SyncTokenValidator(config, channel=channel).start()


def test_spiffe_id_needs_a_target_with_hosts_and_ports(site: Site) -> None:
    for target in ("unix:/run/tokens", "dns:///tokens.internal", "xds:///tokens:50051"):
        config = config_for(
            site.serve(site.ours.server()), credentials=site.roots(site.ours), spiffe_id=ID, target=target
        )
        with pytest.raises(ConfigurationError, match="host:port"):
            SyncTokenValidator(config).start()


def issuer(**options: Any) -> ServiceIssuer:
    return ServiceIssuer(
        **{
            "issuer": "https://tokens.example",
            "target": "dns:///tokens:50051",
            "credentials": CredentialFiles(),
            **options,
        }
    )


PIN = f"sha256/{'A' * 43}="


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"pins": frozenset({PIN})}, "backup"),
        ({"pins": frozenset({PIN, "sha256/AAAA"})}, "44 characters"),
        ({"pins": frozenset({PIN, PIN.replace("sha256", "sha1")})}, "44 characters"),
        ({"spiffe_id": "https://example.org/a"}, "spiffe://TRUST_DOMAIN/PATH"),
        ({"spiffe_id": "spiffe://example.org"}, "spiffe://TRUST_DOMAIN/PATH"),
        ({"spiffe_id": "spiffe://Example.org/a"}, "spiffe://TRUST_DOMAIN/PATH"),
        ({"spiffe_id": "spiffe://example.org/a/../b"}, "spiffe://TRUST_DOMAIN/PATH"),
        ({"spiffe_id": "spiffe://example.org/a//b"}, "spiffe://TRUST_DOMAIN/PATH"),
        ({"spiffe_id": "spiffe://example.org/a/"}, "spiffe://TRUST_DOMAIN/PATH"),
        ({"spiffe_id": ID, "server_name": "tokens"}, "not both"),
        ({"spiffe_id": ID, "credentials": None}, "own roots"),
        ({"spiffe_id": ID, "credentials": grpc.ssl_channel_credentials()}, "own roots"),
    ],
)
def test_unusable_pins_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        issuer(**options)


def test_usable_pins_are_accepted() -> None:
    assert issuer(pins=frozenset({PIN, PIN.replace("A", "B")}), spiffe_id=ID).is_pinned
    assert not issuer().is_pinned


def test_start_that_fails_leaves_no_open_files(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    key = generate_private_key(65537, 1024)  # too small for TLS
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "validator")])
    begin = datetime(2020, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, begin, begin + timedelta(days=1))
    weak = TlsCredentials(
        roots=site.ours.certificate,
        certificate_chain=builder.sign(key, SHA256()).public_bytes(Encoding.PEM),
        private_key=key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
    )
    config = config_for(site.serve(with_id(site.ours, ID)), credentials=lambda: weak, spiffe_id=ID)
    loops: list[asyncio.AbstractEventLoop] = []  # each holds three files
    make = asyncio.new_event_loop

    def noted() -> asyncio.AbstractEventLoop:
        loops.append(make())
        return loops[-1]

    monkeypatch.setattr(asyncio, "new_event_loop", noted)
    with pytest.raises(ConfigurationError, match="KEY_TOO_SMALL"):
        SyncTokenValidator(config).start()
    assert [loop for loop in loops if not loop.is_closed()] == []
