"""Validators in a process that is forked, as `gunicorn --preload` does."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.fake_token_service import FakeTokenService

REPOSITORY = Path(__file__).resolve().parents[3]
EXIT = 7


@pytest.fixture
def service() -> Iterator[FakeTokenService]:
    with FakeTokenService() as service:
        yield service


def lines_of(mode: str, service: FakeTokenService) -> list[dict[str, Any]]:
    token = service.mint.token(time.time())
    # gRPC's own fork handlers sometimes crash a child before code of this package runs in it.
    environment = {**os.environ, "GRPC_ENABLE_FORK_SUPPORT": "0"}
    program = [sys.executable, "-m", "tests.integration.client.forking", mode]
    done = subprocess.run(
        [*program, service.address, service.issuer, token],
        capture_output=True, text=True, timeout=200, check=False, cwd=REPOSITORY,
        env=environment,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_copy_in_a_forked_process_refuses_immediately(service: FakeTokenService, kind: str) -> None:
    """The copy could still accept for a minute and ask the service, but does neither."""
    child, closed, parent = lines_of(f"after start, {kind}", service)
    assert "start it after the fork" in child.pop("problem")
    assert child == {
        "validate": "ValidatorForkedError",
        "fresh": False,
        "explained": False,
        "ready": "ValidatorForkedError",
        "start": "ValidatorForkedError",
        "status": [False, False, False],
    }
    assert closed == {"closed": "ValidatorForkedError"}
    assert parent == {"child": EXIT, "parent": "user-1", "fresh": True}
    assert len(service.stream_requests) == 1
    assert service.remote_calls == []


def test_a_validator_started_after_the_fork_works(service: FakeTokenService) -> None:
    child, parent = lines_of("before start", service)
    assert child == {"ready": True, "validate": "user-1"}
    assert parent == {"child": EXIT}


def test_a_validator_closed_before_the_fork_is_reported_as_closed(service: FakeTokenService) -> None:
    child, parent = lines_of("after close", service)
    assert "forked" not in child["problem"]
    assert parent == {"child": EXIT}
