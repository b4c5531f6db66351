"""A validator that can't connect reports it, with the reason."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.integration.client.connecting import config_for, roots, server_credentials
from tests.support.both_validators import AnyValidator
from tests.support.certificates import Authority
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.manual_clock import ManualClock
from tests.support.ports import free_port, release_port
from token_service.client.config import ForeignIssuer, ValidatorConfig
from token_service.errors import (
    ConfigurationError,
    Reason,
    ReplicaStaleError,
    StoreUnavailableError,
    UnreachableError,
)

LOG = "token_service.client._internal.contact"


@contextmanager
def obstacle(name: str) -> Iterator[tuple[FakeTokenService, dict[str, Any]]]:
    """Yield an unreachable service and the settings of a validator that connects to it."""
    ours, other = Authority(), Authority("Another")
    server = ours.server()
    if name == "refused":
        port = free_port()
        try:
            yield FakeTokenService(), {"target": f"127.0.0.1:{port}"}
        finally:
            release_port(port)
        return
    credentials, changes = {
        "authority": (server_credentials(server), {"credentials": roots(other)}),
        "name": (server_credentials(ours.server("tokens.test")), {"credentials": roots(ours)}),
        "no client certificate": (server_credentials(server, callers=ours), {"credentials": roots(ours)}),
        "no TLS here": (server_credentials(server), {}),
        "no TLS there": (None, {"credentials": roots(ours)}),
    }[name]
    with FakeTokenService(credentials=credentials) as service:
        yield service, changes


@pytest.mark.parametrize(
    ("name", "words", "advice"),
    [
        ("refused", "Connection refused", ""),
        ("authority", "CERTIFICATE_VERIFY_FAILED", "roots of ServiceIssuer.credentials"),
        ("name", "Hostname Verification Check failed", "set ServiceIssuer.server_name"),
        (
            "no client certificate",
            "Socket closed",
            "requires a client certificate, set ServiceIssuer.credentials",
        ),
        ("no TLS here", "Socket closed", "if it uses TLS or"),
        ("no TLS there", "WRONG_VERSION_NUMBER", "does not use TLS on this port"),
    ],
)
async def test_a_failed_connection_is_reported_with_reason_and_advice(
    kind: str, caplog: pytest.LogCaptureFixture, name: str, words: str, advice: str
) -> None:
    caplog.set_level(logging.INFO, LOG)
    clock = ManualClock(time.time())
    with obstacle(name) as (service, changes):
        config = config_for(service, **changes)
        async with AnyValidator(kind, config, clock) as validator:
            await eventually(lambda: validator.counters.probe_failures >= 5)
            status = validator.status()
            assert (status.ready, status.connected, status.fresh) == (False, False, False)
            assert (status.staleness, status.cursor, status.keys_revision) == (None, "", None)
            assert status.last_error_reason is Reason.UNREACHABLE
            assert words in str(status.last_error)
            assert status.last_error_age == 0.0
            assert words in status.problem
            assert advice in status.problem
            assert await validator.wait_ready(0.01) is False
            with pytest.raises(UnreachableError, match=words) as caught:
                await validator.wait_ready(0.01, raise_on_timeout=True)
            assert advice in caught.value.message
            explained = str(validator.explain(service.mint.token(clock.wall)))
            assert words in explained
            (first,) = caplog.records
            assert first.levelno == logging.WARNING
            assert (
                f"the token service at {status.target} can't be reached (UNREACHABLE): " in first.getMessage()
            )
            assert words in first.getMessage()
            assert advice in first.getMessage()
            # Repeated failures are logged once a minute.
            clock.advance(59.0)
            failures = validator.counters.probe_failures
            await eventually(lambda: validator.counters.probe_failures >= failures + 3)
            assert len(caplog.records) == 1
            clock.advance(1.0)
            await eventually(lambda: len(caplog.records) == 2)


async def test_an_issuer_that_differs_by_a_slash_is_reported(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = ManualClock(time.time())
    with FakeTokenService() as service:
        config = config_for(service, issuer=service.issuer + "/")
        async with AnyValidator(kind, config, clock) as validator:
            await eventually(lambda: validator.status().connected)
            status = validator.status()
            assert (status.issuer, status.issuer_seen) == (service.issuer + "/", service.issuer)
            assert status.issuers_without_keys == (service.issuer + "/",)
            assert (status.last_error, status.last_error_reason, status.last_error_age) == (None, None, None)
            said = f"has the issuer {service.issuer!r} and ServiceIssuer.issuer is '{service.issuer}/'"
            with pytest.raises(ConfigurationError) as caught:
                await validator.wait_ready(0.01, raise_on_timeout=True)
            assert said in caught.value.message
            assert said in status.problem
            assert said in str(validator.explain(service.mint.token(clock.wall)))
            await eventually(lambda: said in caplog.text)
            assert caplog.text.count(said) == 1
            clock.advance(60.0)
            await eventually(lambda: caplog.text.count(said) == 2)


async def test_a_refusal_keeps_its_reason(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    with FakeTokenService() as service:
        service.refuse_streams = service.refuse_probes = True
        async with AnyValidator(kind, config_for(service)) as validator:
            await eventually(lambda: validator.status().last_error_reason is Reason.STORE_UNAVAILABLE)
            with pytest.raises(StoreUnavailableError, match="the database is unavailable"):
                await validator.wait_ready(0.01, raise_on_timeout=True)
            assert "failed (STORE_UNAVAILABLE): the database is unavailable" in caplog.text
            # Without probes the known revocations stay unproven, even with a working stream.
            service.refuse_streams = False
            await eventually(lambda: validator.status().connected)
            with pytest.raises(StoreUnavailableError):
                await validator.wait_ready(0.01, raise_on_timeout=True)


async def test_a_returning_service_is_followed_again(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    with FakeTokenService() as service:
        service.revoke(token_id="first")
        async with AnyValidator(kind, config_for(service)) as validator:
            assert await validator.wait_ready(raise_on_timeout=True)
            await eventually(lambda: validator.status().connected)
            status = validator.status()
            assert (status.ready, status.fresh, status.problem) == (True, True, "")
            assert (status.cursor, status.keys_revision) == (service.head, 1)
            assert status.staleness is not None
            assert 0.0 <= status.staleness < 9.0
            assert (status.target, status.issuer, status.issuer_seen) == (
                service.address,
                service.issuer,
                service.issuer,
            )
            assert status.issuers_without_keys == ()
            assert status.last_error is None
            assert "connection: follows" in str(validator.explain(service.mint.token(time.time())))
            assert caplog.records == []
            await asyncio.to_thread(service.stop)
            # A probe may fail before the stream does.
            await eventually(lambda: not validator.status().connected)
            await eventually(lambda: validator.status().last_error_reason is Reason.UNREACHABLE)
            assert validator.status().keys_revision == 1
            await asyncio.to_thread(service.start)
            await eventually(lambda: validator.status().connected)
            await eventually(lambda: "answers again" in caplog.text)
            assert validator.status().last_error_reason is Reason.UNREACHABLE  # the last error is kept


async def test_a_stream_that_ends_by_age_is_no_failure(kind: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, LOG)
    with FakeTokenService() as service:
        async with AnyValidator(kind, config_for(service)) as validator:
            assert await validator.wait_ready()
            service.end_streams()
            await eventually(lambda: len(service.stream_requests) == 2 and validator.status().connected)
            assert validator.status().last_error is None
            assert caplog.records == []


async def test_a_foreign_issuer_without_keys_is_reported(kind: str) -> None:
    def away(_url: str, _timeout: float) -> bytes:
        raise OSError("away")

    with FakeTokenService() as service:
        foreign = ForeignIssuer(
            issuer="https://foreign.test", jwks_url="https://foreign.test/jwks", fetch=away
        )
        config = ValidatorConfig(issuers=[*config_for(service).issuers, foreign], audience=None)
        async with AnyValidator(kind, config) as validator:
            await eventually(lambda: validator.status().fresh and validator.status().keys_revision == 1)
            with pytest.raises(
                ReplicaStaleError, match=r"no key set of https://foreign\.test has been received"
            ):
                await validator.wait_ready(0.01, raise_on_timeout=True)
            assert validator.status().issuers_without_keys == ("https://foreign.test",)


@pytest.mark.parametrize("gone", [0, 1], ids=["first", "second"])
async def test_several_addresses_share_one_name(kind: str, gone: int) -> None:
    authority = Authority()
    credentials = server_credentials(authority.server("tokens.test"))
    with FakeTokenService(credentials=credentials) as one, FakeTokenService(credentials=credentials) as other:
        nodes = (one, other)
        target = f"ipv4:{one.address},{other.address}"
        settings = {"target": target, "credentials": roots(authority)}
        async with AnyValidator(kind, config_for(one, **settings, server_name="tokens.test")) as validator:
            assert await validator.wait_ready()
            await eventually(lambda: one.open_streams == 1)
            await asyncio.to_thread(nodes[gone].stop)
            left = nodes[1 - gone]
            await eventually(lambda: left.open_streams == 1 and validator.status().connected)
            assert (await validator.validate(left.mint.token(time.time()))).subject == "user-1"
            assert await validator.wait_ready()
            await asyncio.to_thread(nodes[gone].start)
        async with AnyValidator(kind, config_for(one, **settings)) as validator:
            await eventually(lambda: validator.status().last_error_reason is Reason.UNREACHABLE)
            assert validator.status().connected is False
        async with AnyValidator(kind, config_for(one, **settings, server_name="another.test")) as validator:
            await eventually(lambda: validator.status().last_error_reason is Reason.UNREACHABLE)
            assert "Hostname Verification Check failed" in validator.status().problem
