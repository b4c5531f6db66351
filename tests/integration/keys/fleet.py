"""Validators that check every token repeatedly while keys change, and record each wrong verdict."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import grpc
from jwt import get_unverified_header

from tests.integration.calls import ACCESS, STRONG, Api
from tests.integration.nodes import Node
from tests.support.deadline import eventually
from token_service.client import ForeignIssuer, Freshness, ServiceIssuer, TokenValidator, ValidatorConfig
from token_service.client._internal.http_fetch import fetch_over_http
from token_service.errors import InvalidReason, InvalidTokenError, ReplicaStaleError

BOUND = 3.0
"""Seconds after which no validator accepts a revoked token as fresh."""
ISSUER = "https://tokens.test"
PATIENCE = 60.0
"""Seconds within which a validator that was cut off must be fresh again. Only a hang takes as long."""


class WrongVerdictError(Exception):
    """A good token was refused, or one that was not good accepted."""


@dataclass
class Token:
    text: str = field(repr=False)
    key_id: str
    algorithm: str


class Fleet:
    """Issues at every node and validates at every node and by `size` validators, until the context ends."""

    def __init__(self, nodes: list[Node], *, size: int = 20, pollers: int = 2) -> None:
        self._nodes = nodes
        self._size = size
        self._pollers = pollers
        self._random = random.Random(4)
        self._tokens: list[Token] = []
        self.issued: Counter[tuple[int, str, str]] = Counter()
        """Number of tokens by node, key and algorithm."""
        self.killed: dict[str, float] = {}
        """By key: the time at which its revocation was acknowledged (monotonic)."""
        self.being_killed: set[str] = set()
        self.verdicts: Counter[str] = Counter()
        self.wrong: list[str] = []
        self._left_behind = 0

    async def __aenter__(self) -> Self:
        self._stack = stack = AsyncExitStack()
        addresses = [node.grpc_address for node in self._nodes]
        self.apis = [await stack.enter_async_context(Api(address)) for address in addresses]
        self._validators = [
            await stack.enter_async_context(TokenValidator(self._config(number, addresses)))
            for number in range(self._size)
        ]
        for validator in self._validators:
            assert await validator.wait_ready(PATIENCE)
        self._tasks = [asyncio.create_task(self._issue(number)) for number in range(len(self._nodes))]
        self._tasks += [
            asyncio.create_task(self._check(validator, n)) for n, validator in enumerate(self._validators)
        ]
        self._tasks += [
            asyncio.create_task(self._ask(number, strong=strong))
            for number in range(len(self._nodes))
            for strong in (False, True)
        ]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await self._stack.aclose()

    def require_health(self) -> None:
        """Raise `WrongVerdictError` if any verdict was wrong or a task has ended."""
        ended = [repr(task) for task in self._tasks if task.done()]
        if ended or self.wrong:
            raise WrongVerdictError(f"{len(self.wrong)} wrong verdicts: {self.wrong[:10]}; ended: {ended}")

    async def until(self, condition: Callable[[], object], timeout: float = 90) -> None:
        """Wait for a condition while every verdict is correct."""

        def check() -> bool:
            self.require_health()
            return bool(condition())

        await eventually(check, timeout=timeout, interval=0.1)

    @asynccontextmanager
    async def left_behind(self) -> AsyncIterator[None]:
        """Excuse unknown keys while a node is away for longer than keys are announced.

        Validators that follow it may not know the newest keys and refuse their tokens.
        """
        self._left_behind += 1
        yield
        # A request for the key set that the node left unanswered fails later than the next key is in use, so a validator
        # may miss that key, too.
        for _ in range(2):
            known = {token.key_id for token in self._tokens}
            newest = await eventually(partial(self._token_of_another_key, known))
            for validator in self._validators:
                await eventually(partial(_accepts, validator, newest))
        self._left_behind -= 1

    def _token_of_another_key(self, known: Collection[str]) -> Token | None:
        newest = self._tokens[-1]
        return None if newest.key_id in known else newest

    async def kill(self, key_id: str, api: Api) -> None:
        """Revoke a key."""
        from token_service.v1.key_service_pb2 import RevokeSigningKeyRequest

        self.being_killed.add(key_id)
        await api.keys.RevokeSigningKey(RevokeSigningKeyRequest(key_id=key_id), timeout=30)
        self.killed[key_id] = time.monotonic()

    def keys_of(self, algorithm: str) -> set[str]:
        """Return the keys that have signed tokens."""
        return {key_id for _, key_id, used in self.issued if used == algorithm}

    def _config(self, number: int, addresses: list[str]) -> ValidatorConfig:
        if number < self._pollers:  # knows only the published key set, as most gateways do
            issuer: ServiceIssuer | ForeignIssuer = ForeignIssuer(
                issuer=ISSUER,
                jwks_url="https://tokens.test/.well-known/jwks.json",
                fetch=self._fetch,
                refresh_interval=1.0,
                unknown_key_interval=0.0,
            )
        else:
            order = addresses if number % 2 else addresses[::-1]
            issuer = ServiceIssuer(
                issuer=ISSUER,
                target=f"ipv4:{','.join(order)}",
                subscriber_id=f"validator-{number}",
                freshness=Freshness(bound=BOUND),
                key_refresh_interval=0.5,
                remote_timeout=10.0,
            )
        return ValidatorConfig(issuers=[issuer], audience="api", cache_capacity=200)

    def _fetch(self, url: str, timeout: float) -> bytes:
        """Fetch from any node that answers, as a load balancer does."""
        failure = OSError("no node")
        for node in self._nodes:
            try:
                return fetch_over_http(url.replace("https://tokens.test", node.http_url), timeout)
            except OSError as error:
                failure = error
        raise failure

    async def _issue(self, number: int) -> None:
        while True:
            try:
                token = (await self.apis[number].issue(token_types=[ACCESS])).access_token
            except grpc.aio.AioRpcError as error:
                if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                    self.wrong.append(f"node {number} does not issue: {error.code()} {error.details()}")
                await asyncio.sleep(0.1)  # the node is being restarted
                continue
            header = get_unverified_header(token)
            self.issued[number, header["kid"], header["alg"]] += 1
            self._tokens.append(Token(token, header["kid"], header["alg"]))
            await asyncio.sleep(0.03)

    def _choose(self) -> Token | None:
        """Return one of the newest tokens half of the time, otherwise any token."""
        if not self._tokens:
            return None
        newest = self._random.random() < 0.5
        return (
            self._tokens[-self._random.randint(1, min(5, len(self._tokens)))]
            if newest
            else self._random.choice(self._tokens)
        )

    def _judge(self, who: str, token: Token, accepted: str, began: float, bound: float) -> None:
        """Record a verdict. `accepted`: the reason for a refusal; empty if the token was accepted."""
        self.verdicts["refused" if accepted else "accepted"] += 1
        if accepted and token.key_id not in self.being_killed:
            self.wrong.append(f"{who} refused a good token of {token.key_id} ({token.algorithm}): {accepted}")
        if not accepted and began > self.killed.get(token.key_id, float("inf")) + bound:
            late = began - self.killed[token.key_id]
            self.wrong.append(f"{who} accepted a token of a key {late:.2f} s after its revocation")

    async def _check(self, validator: TokenValidator, number: int) -> None:
        bound = float("inf") if number < self._pollers else BOUND
        while True:
            token = self._choose()
            if token is not None:
                began = time.monotonic()
                excused = self._left_behind
                try:
                    await validator.validate(token.text, required_scopes=["read"])
                    verdict = ""
                except InvalidTokenError as error:
                    verdict = error.reason.value
                    if excused and error.reason is InvalidReason.UNKNOWN_KEY:
                        self.verdicts["unknown"] += 1
                        await asyncio.sleep(0.04)
                        continue
                except ReplicaStaleError:
                    self.verdicts["unknown"] += 1
                    if not await validator.wait_ready(PATIENCE):
                        self.wrong.append(f"validator {number} was cut off for {PATIENCE} s")
                    await asyncio.sleep(0.04)
                    continue
                self._judge(f"validator {number}", token, verdict, began, bound)
            await asyncio.sleep(0.04)

    async def _ask(self, number: int, *, strong: bool) -> None:
        while True:
            token = self._choose()
            if token is not None:
                began = time.monotonic()
                try:
                    verdict = await self.apis[number].why(token.text, consistency=STRONG if strong else 0)
                except grpc.aio.AioRpcError as error:
                    if error.code() not in {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED}:
                        self.wrong.append(
                            f"node {number} does not validate: {error.code()} {error.details()}"
                        )
                    await asyncio.sleep(0.1)
                    continue
                # A LOCAL answer may lag behind by the age of the node's replica, a STRONG answer not at all.
                self._judge(f"node {number}", token, verdict, began, 0.0 if strong else 10.0)
            await asyncio.sleep(0.03)


async def _accepts(validator: TokenValidator, token: Token) -> bool:
    try:
        await validator.validate(token.text)
    except (InvalidTokenError, ReplicaStaleError):
        return False
    return True
