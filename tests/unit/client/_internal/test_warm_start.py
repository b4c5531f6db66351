# ruff: noqa: ASYNC240  # the files are small and on a local disk
from __future__ import annotations

import logging
import os
import socket
import stat
import time
from pathlib import Path

import pytest

from tests.support.both_validators import AnyValidator
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.manual_clock import ManualClock
from tests.unit.client.conftest import config_for
from token_service.client.config import ValidatorConfig, WarmStart, WhenStale
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError
from token_service.tokens.secret import Secret

KEY = Secret(b"m" * 32)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "revocations"


def warm_config(
    service: FakeTokenService, path: Path, *, key: Secret = KEY, max_age: float = 3600, **changes: object
) -> ValidatorConfig:
    warm = WarmStart(path=path, mac_key=key, max_age=max_age)
    return config_for(service, warm_start=warm, **changes)  # type: ignore[arg-type]


async def saved(service: FakeTokenService, path: Path, kind: str) -> tuple[str, str]:
    """Save a snapshot with every kind of entry; return a good and a revoked token."""
    now = time.time()
    async with AnyValidator(kind, warm_config(service, path)) as validator:
        assert await validator.wait_ready()
        service.revoke(token_id="gone")
        service.revoke(token_id="known", expiry=now + 900)
        service.revoke(session_id="session")
        service.revoke(subject="eve")
        service.revoke(key_id="old-key")
        await eventually(lambda: validator.counters.revocations == 5)
    return service.mint.token(now, jti="good"), service.mint.token(now, jti="gone")


async def test_validator_starts_while_the_service_is_down(
    service: FakeTokenService, path: Path, kind: str
) -> None:
    good, gone = await saved(service, path, kind)
    service.stop()
    config = warm_config(service, path, when_stale=(WhenStale.REMOTE, WhenStale.ACCEPT))
    async with AnyValidator(kind, config) as validator:
        assert not validator.is_fresh
        await validator.validate(good)
        assert validator.counters.accepted_stale == 1
        now = time.time()
        for bad in (
            gone,
            service.mint.token(now, jti="known"),
            service.mint.token(now, sid="session"),
            service.mint.token(now, sub="eve", rev=3),
        ):
            with pytest.raises(InvalidTokenError) as caught:
                await validator.validate(bad)
            assert caught.value.reason is InvalidReason.REVOKED
    service.start()


async def test_loaded_snapshot_is_not_fresh_without_a_proof(
    service: FakeTokenService, path: Path, kind: str
) -> None:
    good, _ = await saved(service, path, kind)
    service.stop()
    async with AnyValidator(kind, warm_config(service, path)) as validator:
        with pytest.raises(ReplicaStaleError):
            await validator.validate(good)
    service.start()


async def test_resume_transfers_only_missing_entries(
    service: FakeTokenService, path: Path, kind: str
) -> None:
    await saved(service, path, kind)
    service.revoke(token_id="since")
    service.stream_requests.clear()
    async with AnyValidator(kind, warm_config(service, path)) as validator:
        assert await validator.wait_ready()
        assert service.stream_requests[0].cursor == f"{service.epoch}:5"
        assert validator.counters.resets == 0
        for jti in ("since", "gone"):
            with pytest.raises(InvalidTokenError):
                await validator.validate(service.mint.token(time.time(), jti=jti))


async def test_accept_counts_from_the_last_proof_before_it_was_saved(
    service: FakeTokenService, path: Path, kind: str
) -> None:
    await saved(service, path, kind)
    service.stop()
    config = warm_config(service, path, when_stale=(WhenStale.ACCEPT,), accept_for=200.0)
    for age, accepted in ((190, True), (210, False)):
        clock = ManualClock(time.time() + age)
        token = service.mint.token(clock.wall)
        async with AnyValidator(kind, config, clock) as validator:
            if accepted:
                await validator.validate(token)
            else:
                with pytest.raises(ReplicaStaleError):
                    await validator.validate(token)
    service.start()


@pytest.mark.parametrize("age", [4000, -4000], ids=["too old", "from the future"])
async def test_snapshot_of_wrong_age_is_not_used(
    service: FakeTokenService, path: Path, kind: str, age: float
) -> None:
    await saved(service, path, kind)
    service.stop()
    clock = ManualClock(time.time() + age)
    async with AnyValidator(
        kind, warm_config(service, path, when_stale=(WhenStale.ACCEPT,)), clock
    ) as validator:
        with pytest.raises(ReplicaStaleError, match="no key set"):
            await validator.validate(service.mint.token(clock.wall))
    service.start()


async def test_snapshot_that_is_not_authentic_is_not_used(
    service: FakeTokenService, path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    await saved(service, path, kind)
    data = path.read_bytes()
    service.stop()
    cases = [
        (b"", KEY),
        (b"garbage", KEY),
        (data[:-1], KEY),
        (data + b"\0", KEY),
        (data[:40] + bytes([data[40] ^ 1]) + data[41:], KEY),
        (data[:200] + bytes([data[200] ^ 1]) + data[201:], KEY),
        (data, Secret(b"n" * 32)),
    ]
    for content, key in cases:
        path.write_bytes(content)
        caplog.clear()
        with caplog.at_level(logging.WARNING):
            config = warm_config(service, path, key=key, when_stale=(WhenStale.ACCEPT,))
            async with AnyValidator(kind, config) as validator:
                with pytest.raises(ReplicaStaleError):
                    await validator.validate(service.mint.token(time.time()))
        assert "not authentic" in caplog.text
    service.start()


async def test_snapshot_of_another_issuer_is_not_used(
    service: FakeTokenService, path: Path, kind: str
) -> None:
    await saved(service, path, kind)
    service.stop()
    service.issuer = "https://somebody.else"
    async with AnyValidator(kind, warm_config(service, path)) as validator:
        assert validator.real._parts.follower_state is not None
        assert validator.real._parts.follower_state.cursor is None
    service.start()


async def test_snapshot_is_readable_by_owner_only_and_leaves_no_temporary_file(
    service: FakeTokenService, path: Path, kind: str
) -> None:
    await saved(service, path, kind)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [file.name for file in path.parent.iterdir()] == [path.name]


async def test_validator_survives_an_unwritable_disk(
    service: FakeTokenService, tmp_path: Path, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "missing" / "revocations"
    async with AnyValidator(kind, warm_config(service, path)) as validator:
        assert await validator.wait_ready()
        await validator.validate(service.mint.token(time.time()))
    assert "could not be written" in caplog.text


async def test_snapshot_is_written_repeatedly(service: FakeTokenService, path: Path, kind: str) -> None:
    warm = WarmStart(path=path, mac_key=KEY, interval=1.0)
    async with AnyValidator(kind, config_for(service, warm_start=warm)) as validator:
        assert await validator.wait_ready()
        await eventually(path.exists)
        first = path.stat().st_mtime_ns
        await eventually(lambda: path.stat().st_mtime_ns > first)


@pytest.mark.parametrize("what", ["pipe", "directory", "device", "huge file", "socket"])
async def test_path_that_is_no_snapshot_neither_hangs_nor_fails(
    service: FakeTokenService, path: Path, kind: str, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    if what == "pipe":
        os.mkfifo(path)
    elif what == "directory":
        path.mkdir()
    elif what == "device":
        path.symlink_to("/dev/zero")
    elif what == "socket":
        with socket.socket(socket.AF_UNIX) as made:
            made.bind(str(path))
    else:
        with path.open("wb") as file:
            file.truncate(1 << 40)  # needs no disk
    async with AnyValidator(kind, warm_config(service, path)) as validator:
        assert await validator.wait_ready()
        await validator.validate(service.mint.token(time.time(), jti="good"))
    assert "the snapshot of the revocations can't be read" in caplog.text
    # At the end a snapshot has replaced everything except a directory.
    assert path.is_dir() if what == "directory" else path.read_bytes().startswith(b"token-service warm start")
