"""Work on two nodes during failovers of their database, with a record of acknowledged results."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TypeVar

import grpc

from tests.integration.calls import STRONG, Api, Failure
from tests.integration.nodes import Node
from tests.support.deadline import eventually
from token_service.client import ServiceIssuer, TokenValidator, ValidatorConfig
from token_service.client.config import Freshness, WhenStale
from token_service.errors import InvalidReason, InvalidTokenError, ServiceError

T = TypeVar("T")

ISSUER = "https://tokens.test"
BOUND = 5.0
"""Seconds that a validator may lag: the default of the client library."""
_CHAINS = 4
_PAUSE = 0.05


class Load:
    """Refresh chains, revocations and validations, each with the retries that the documentation tells callers to make."""

    def __init__(self, apis: list[Api], validators: list[TokenValidator]) -> None:
        self._apis = apis
        self.validators = validators
        self._stop = asyncio.Event()
        self._next = itertools.cycle(apis)
        self.failures: list[Failure] = []
        self.revoked: list[tuple[float, str]] = []
        """When each revocation was acknowledged, and a token that it refuses."""
        self.waited = 0
        """Revocations whose call waited for all subscribers."""
        self.successors: dict[str, set[str]] = {}
        """The answers that each refresh token got."""
        self.ends: dict[int, str] = {}
        """The newest refresh token of each chain."""
        self.violations: list[str] = []
        self.accepted = self.refused = self.unanswered = 0

    async def refresh(self, number: int) -> None:
        """Refresh one session again and again. A failed call is repeated with the same token."""
        token = (await self._retried(lambda api: api.issue(f"chain-{number}"))).refresh_token
        self.ends[number] = token
        while not self._stop.is_set():
            answer = await self._retried(lambda api, token=token: api.refresh(token))  # type: ignore[misc]
            self.successors.setdefault(token, set()).add(answer.refresh_token)
            self.ends[number] = token = answer.refresh_token
            await asyncio.sleep(_PAUSE)

    async def revoke(self) -> None:
        """Issue tokens and revoke them in all ways. A failed call is repeated."""
        for number in itertools.count():
            if self._stop.is_set():
                return
            subject = f"subject-{number}"
            issued = await self._retried(lambda api, subject=subject: api.issue(subject))  # type: ignore[misc]
            target = [
                {"subject": subject},
                {"token": issued.access_token},
                {"session_id": issued.session_id},
            ][number % 3]
            wait = 2.0 if number % 10 == 9 else None
            await self._retried(lambda api, target=target, wait=wait: api.revoke(wait=wait, **target))  # type: ignore[misc]
            self.waited += wait is not None
            self.revoked.append((time.monotonic(), issued.access_token))
            await asyncio.sleep(_PAUSE)

    async def validate(self, validator: TokenValidator, good: str) -> None:
        """Validate a good token and the revoked ones. None of these may count as good `BOUND` seconds later."""
        position = 0
        while not self._stop.is_set():
            position = (position + 1) % max(1, len(self.revoked))
            tokens = [good] if not self.revoked else [good, self.revoked[position][1], self.revoked[-1][1]]
            for token in tokens:
                began = time.monotonic()
                known = next((at for at, revoked in reversed(self.revoked) if revoked == token), None)
                try:
                    await validator.validate(token)
                except InvalidTokenError as error:
                    self.refused += 1
                    if token == good or error.reason is not InvalidReason.REVOKED:
                        self.violations.append(
                            f"refused as {error.reason} what is good" if token == good else str(error)
                        )
                except ServiceError:
                    self.unanswered += 1
                else:
                    self.accepted += 1
                    if known is not None and began > known + BOUND:
                        self.violations.append(f"accepted {began - known:.1f} s after the revocation")
            await asyncio.sleep(0.01)

    async def progress(self, count: int = 10) -> None:
        """Wait until so many further revocations are acknowledged."""
        until = len(self.revoked) + count

        def reached() -> bool:
            assert len(self.revoked) >= until, (
                f"{len(self.revoked)} of {until} revocations; {self.failures[-2:]}"
            )
            return True

        await eventually(reached, timeout=180)

    def stop(self) -> None:
        """End the work after the running calls."""
        self._stop.set()

    async def _retried(self, call: Callable[[Api], Awaitable[T]]) -> T:
        while True:
            try:
                return await call(next(self._next))
            except grpc.aio.AioRpcError as error:
                self.failures.append(Failure.of(error))
                if error.code() is not grpc.StatusCode.UNAVAILABLE:
                    raise
                await asyncio.sleep(min(1.0, self.failures[-1].retry_after or 0.2))


@asynccontextmanager
async def load(nodes: list[Node]) -> AsyncIterator[Load]:
    """Run the work beside a block, then check the acknowledged results."""
    async with AsyncExitStack() as stack:
        apis = [await stack.enter_async_context(Api(node.grpc_address)) for node in nodes]
        validators = [
            await stack.enter_async_context(
                TokenValidator(
                    ValidatorConfig(
                        issuers=[
                            ServiceIssuer(
                                issuer=ISSUER,
                                target=node.grpc_address,
                                freshness=Freshness(bound=BOUND, when_stale=(WhenStale.REJECT,)),
                            )
                        ],
                        audience="api",
                    )
                )
            )
            for node in nodes
        ]
        for validator in validators:
            assert await validator.wait_ready(60)
        work = Load(apis, validators)
        good = (await apis[0].issue("good")).access_token
        async with asyncio.TaskGroup() as tasks:
            for number in range(_CHAINS):
                tasks.create_task(work.refresh(number))
            tasks.create_task(work.revoke())
            for validator in validators:
                tasks.create_task(work.validate(validator, good))
            try:
                await work.progress(12)
                yield work
                await work.progress(12)
            finally:
                work.stop()
        await _check(work, apis)


async def _check(work: Load, apis: list[Api]) -> None:
    """Check that nothing acknowledged is lost: no revocation, and no successor of a refresh token."""
    assert not work.violations, work.violations[:5]
    codes = {failure.code for failure in work.failures}
    assert codes <= {grpc.StatusCode.UNAVAILABLE}
    assert work.accepted
    assert work.refused
    assert work.waited
    for token, answers in work.successors.items():
        assert len(answers) == 1, f"a refresh token has {len(answers)} successors: {token[:6]}"
    for validator in work.validators:
        await eventually(lambda validator=validator: validator.is_fresh)  # type: ignore[misc]
    for api in apis:
        for _, token in work.revoked:
            assert await api.why(token, consistency=STRONG) in {"REVOKED", "SESSION_REVOKED"}
    for validator in work.validators:
        for _, token in work.revoked:
            try:
                await validator.validate(token)
            except InvalidTokenError as error:
                assert error.reason is InvalidReason.REVOKED  # noqa: PT017
            else:
                raise AssertionError("a fresh validator accepted a revoked token")
    for number, token in work.ends.items():
        assert (await apis[number % len(apis)].refresh(token)).refresh_token
