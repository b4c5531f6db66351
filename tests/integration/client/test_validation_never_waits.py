"""Validations share only a pointer with the follower: they continue while the follower is stuck, and under load."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from tests.support.deadline import eventually, eventually_sync
from tests.support.fake_token_service import FakeTokenService
from tests.support.token_mint import AUDIENCE
from token_service.client._internal.following import follower as follower_module
from token_service.client.config import Freshness, ServiceIssuer, ValidatorConfig, WhenStale
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.errors import InvalidReason, InvalidTokenError

_WORKERS = 8
_BURST = 3000


@pytest.fixture
def service() -> Iterator[FakeTokenService]:
    with FakeTokenService() as service:
        yield service


@pytest.fixture
def config(service: FakeTokenService) -> ValidatorConfig:
    issuer = ServiceIssuer(
        issuer=service.issuer,
        target=service.address,
        freshness=Freshness(bound=60, probe_timeout=20, when_stale=(WhenStale.REJECT,)),
        stall_timeout=60,
    )
    return ValidatorConfig(issuers=[issuer], audience=AUDIENCE)


class Stuck:
    """A step of the follower that waits until the test releases it."""

    def __init__(self, owner: Any, name: str) -> None:
        self._step = getattr(owner, name)
        self.entered, self.leave = threading.Event(), threading.Event()
        setattr(owner, name, self)

    def __call__(self, message: Any) -> None:
        self.entered.set()
        assert self.leave.wait(100)
        self._step(message)


def tokens(service: FakeTokenService, count: int) -> list[str]:
    return [service.mint.token(time.time(), jti=f"token-{number}") for number in range(count)]


@pytest.mark.parametrize("step", ["load", "apply"])
def test_threads_validate_while_the_follower_holds_its_lock(
    service: FakeTokenService, config: ValidatorConfig, step: str
) -> None:
    with SyncTokenValidator(config) as validator:
        assert validator.wait_ready(60)
        assert validator._service is not None
        assert validator._service._follower is not None
        known = tokens(service, 100)
        validator.validate(known[0])
        stuck = Stuck(validator._parts.follower_state, step)
        service.revoke(token_id="token-0")
        assert stuck.entered.wait(60)
        try:
            # The follower builds a snapshot without the lock that writers share.
            assert validator._service._follower.writing.locked() == (step == "apply")
            with ThreadPoolExecutor(_WORKERS) as pool:
                # The validator has verified the first token before; the others are new to it.
                subjects = set(
                    pool.map(lambda token: validator.validate(token).subject, known * 5, timeout=60)
                )
                assert subjects == {"user-1"}
                assert pool.submit(validator.explain, known[1]).result(60).accepted
                assert pool.submit(validator.counters.as_dict).result(60)["verified"] >= 100
        finally:
            stuck.leave.set()
        eventually_sync(lambda: refused(validator, known[0]))


async def test_tasks_validate_while_a_snapshot_is_loaded(
    service: FakeTokenService, config: ValidatorConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(follower_module, "LARGE", 0)
    async with TokenValidator(config) as validator:
        assert await validator.wait_ready(60)
        known = tokens(service, 100)
        stuck = Stuck(validator._parts.follower_state, "load")
        service.revoke(token_id="token-0")
        assert await asyncio.to_thread(stuck.entered.wait, 60)
        try:
            async with asyncio.timeout(100):
                for token in known * 5:
                    await validator.validate(token)
        finally:
            stuck.leave.set()
        await eventually(lambda: validator.counters.revocations == 1)
        with pytest.raises(InvalidTokenError):
            await validator.validate(known[0])


def refused(validator: SyncTokenValidator, token: str) -> bool:
    try:
        validator.validate(token)
    except InvalidTokenError as error:
        return error.reason is InvalidReason.REVOKED
    return False


class Verdicts:
    """The verdicts of the workers: a refused token stays refused, and a good token is never refused."""

    def __init__(self, all_tokens: list[str]) -> None:
        self.tokens = all_tokens
        self.revoked = set(all_tokens[::2])
        self.seen: list[set[str]] = [set() for _ in range(_WORKERS)]
        self.validations = [0] * _WORKERS

    def note(self, worker: int, token: str, error: InvalidTokenError | None) -> None:
        self.validations[worker] += 1
        if error is None:
            assert token not in self.seen[worker], "accepted again"
            return
        assert error.reason is InvalidReason.REVOKED
        assert token in self.revoked, "refused though no call revoked it"
        self.seen[worker].add(token)

    @property
    def complete(self) -> bool:
        return all(seen == self.revoked for seen in self.seen)


def burst(service: FakeTokenService, verdicts: Verdicts) -> None:
    """Revoke many tokens, some of them validated by the workers."""
    expiry = time.time() + 900
    share = _BURST // len(verdicts.tokens)
    for number in range(0, len(verdicts.tokens), 2):
        for other in range(share * 2):
            service.revoke(token_id=f"other-{number}-{other}", expiry=expiry)
        service.revoke(token_id=f"token-{number}")


def test_threads_see_every_revocation_of_a_burst(service: FakeTokenService, config: ValidatorConfig) -> None:
    with SyncTokenValidator(config) as validator:
        assert validator.wait_ready(60)
        verdicts = Verdicts(tokens(service, 60))
        deadline = time.monotonic() + 80

        def work(worker: int) -> None:
            while verdicts.seen[worker] != verdicts.revoked and time.monotonic() < deadline:
                for token in verdicts.tokens:
                    try:
                        validator.validate(token, required_scopes=["read"])
                    except InvalidTokenError as error:
                        verdicts.note(worker, token, error)
                    else:
                        verdicts.note(worker, token, None)

        with ThreadPoolExecutor(_WORKERS) as pool:
            done = [pool.submit(work, worker) for worker in range(_WORKERS)]
            burst(service, verdicts)
            for each in done:
                each.result(90)
        assert verdicts.complete
        assert validator.counters.revocations >= _BURST
        assert set(validator.counters.stream_ends) == set()


async def test_tasks_see_every_revocation_of_a_burst(
    service: FakeTokenService, config: ValidatorConfig
) -> None:
    async with TokenValidator(config) as validator:
        assert await validator.wait_ready(60)
        verdicts = Verdicts(tokens(service, 60))

        async def work(worker: int) -> None:
            while verdicts.seen[worker] != verdicts.revoked:
                for token in verdicts.tokens:
                    try:
                        await validator.validate(token, required_scopes=["read"])
                    except InvalidTokenError as error:
                        verdicts.note(worker, token, error)
                    else:
                        verdicts.note(worker, token, None)
                await asyncio.sleep(0)

        async with asyncio.timeout(100), asyncio.TaskGroup() as tasks:
            tasks.create_task(asyncio.to_thread(burst, service, verdicts))
            for worker in range(_WORKERS):
                tasks.create_task(work(worker))
        assert verdicts.complete
        assert validator.counters.revocations >= _BURST
        assert set(validator.counters.stream_ends) == set()
