from __future__ import annotations

import asyncio
import logging
import threading
import time
from typing import Any, Self

import grpc
import httpx
import pytest

from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from token_service.client.config import Backoff
from token_service.client.httpx_auth import TokenAuth
from token_service.client.renewal import MemoryTokenStore, RenewalPolicy, SyncTokenSource, Tokens, TokenSource
from token_service.errors import (
    ConfigurationError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ServiceError,
    SessionRevokedError,
    StoreUnavailableError,
    TooManyRetriesError,
)
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

PATIENT = RenewalPolicy(
    attempt_timeout=60.0, give_up_after=100.0, backoff=Backoff(initial=0.01, longest=0.05)
)
"""For what succeeds in the end: no attempt is given up because the machine is busy, and none made again."""
IMPATIENT = RenewalPolicy(attempt_timeout=1.0, give_up_after=2.0, backoff=Backoff(initial=0.01, longest=0.05))


class AnySource:
    """Both sources behind one face."""

    def __init__(self, kind: str, service: FakeTokenService, tokens: Tokens | None, **options: Any) -> None:
        self.store = Store(tokens)
        self.now = 0.0
        self._channel: Any
        known: dict[str, Any] = {
            "client_id": "web",
            "store": self.store,
            "policy": PATIENT,
            "now": lambda: time.time() + self.now,
            **options,
        }
        self.real: TokenSource | SyncTokenSource
        if kind == "async":
            self._channel = grpc.aio.insecure_channel(service.address)
            self.real = TokenSource(TokenServiceStub(self._channel), **known)
        else:
            self._channel = grpc.insecure_channel(service.address)
            self.real = SyncTokenSource(TokenServiceStub(self._channel), **known)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.do("close")
        if isinstance(self.real, TokenSource):
            await self._channel.close()
        else:
            self._channel.close()

    async def do(self, name: str, *args: Any) -> Any:
        method = getattr(self.real, name)
        if isinstance(self.real, TokenSource):
            return await method(*args)
        return await asyncio.to_thread(method, *args)

    async def token(self) -> str:
        return str(await self.do("token"))

    def invalidate(self, token: str) -> None:
        self.real.invalidate(token)


class Store(MemoryTokenStore):
    def __init__(self, tokens: Tokens | None) -> None:
        super().__init__(tokens)
        self.broken = False
        self.saves = 0

    def save(self, tokens: Tokens) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.saves += 1
        super().save(tokens)


def tokens(service: FakeTokenService, life: float = 900.0, refresh: str = "refresh-0") -> Tokens:
    now = time.time()
    return Tokens(access_token=service.mint.token(now), access_expire_time=now + life, refresh_token=refresh)


async def test_a_token_that_is_good_for_long_is_used(service: FakeTokenService, kind: str) -> None:
    first = tokens(service)
    async with AnySource(kind, service, first) as source:
        assert await source.token() == first.access_token
        assert service.refresh_calls == []


async def test_renews_ahead_without_making_anybody_wait(service: FakeTokenService, kind: str) -> None:
    first = tokens(service)
    async with AnySource(kind, service, first) as source:
        assert await source.token() == first.access_token
        source.now = 900 * 0.6
        assert await source.token() == first.access_token
        assert service.refresh_calls == []
        source.now = 900 * 0.85
        assert await source.token() == first.access_token
        await eventually(lambda: len(service.refresh_calls) == 1)
        source.now = 0
        await eventually(lambda: source.store.saves == 1)
        assert await source.token() != first.access_token
        saved = source.store.load()
        assert saved is not None
        assert saved.refresh_token == "refresh-1"
        call = service.refresh_calls[0]
        assert (call.client_id, call.refresh_token) == ("web", "refresh-0")


async def test_an_expired_token_is_waited_for_by_all_and_fetched_once(
    service: FakeTokenService, kind: str
) -> None:
    async with AnySource(kind, service, tokens(service, life=-1)) as source:
        got = await asyncio.gather(*(source.token() for _ in range(20)))
        assert len(set(got)) == 1
        assert len(service.refresh_calls) == 1


async def test_a_lost_answer_is_asked_for_again_with_the_same_token(
    service: FakeTokenService, kind: str
) -> None:
    service.lose_refreshes = 2
    async with AnySource(kind, service, tokens(service, life=-1)) as source:
        await source.token()
        assert [call.refresh_token for call in service.refresh_calls] == ["refresh-0"] * 3
        saved = source.store.load()
        assert saved is not None
        assert saved.refresh_token == "refresh-1"


async def test_a_process_that_died_between_answer_and_store_goes_on(
    service: FakeTokenService, kind: str
) -> None:
    first = tokens(service, life=-1)
    service.generation = 1  # the service has answered, nobody has stored it
    async with AnySource(kind, service, first) as source:
        await source.token()
        assert service.generation == 1


async def test_a_caller_that_is_cancelled_takes_the_answer_from_nobody(service: FakeTokenService) -> None:
    service.lose_refreshes = 1
    async with AnySource("async", service, tokens(service, life=-1)) as source:
        waiting = asyncio.create_task(source.token())
        await eventually(lambda: len(service.refresh_calls) >= 1)
        waiting.cancel()
        await source.token()
        assert service.generation == 1


@pytest.mark.parametrize("error", [SessionRevokedError, RefreshTokenReusedError, RefreshTokenInvalidError])
async def test_the_end_of_a_session_is_said_at_once_and_not_asked_again(
    service: FakeTokenService, kind: str, error: type[ServiceError]
) -> None:
    service.refuse_refreshes = error()
    async with AnySource(kind, service, tokens(service, life=-1)) as source:
        for _ in range(3):
            with pytest.raises(error):
                await source.token()
        assert len(service.refresh_calls) == 1
        service.refuse_refreshes = None
        await source.do("replace", tokens(service, life=-1))
        await source.token()


async def test_while_the_service_is_away_the_token_is_used_to_its_end(
    service: FakeTokenService, kind: str
) -> None:
    first = tokens(service)
    service.refuse_refreshes = StoreUnavailableError()
    async with AnySource(kind, service, first, policy=IMPATIENT) as source:
        assert await source.token() == first.access_token
        source.now = 800
        assert await source.token() == first.access_token
        await eventually(lambda: len(service.refresh_calls) >= 2)
        source.now = 898
        with pytest.raises(StoreUnavailableError):
            await source.token()
        service.refuse_refreshes = None
        source.now = 0
        source.invalidate(first.access_token)
        assert await source.token() != first.access_token


async def test_asks_again_when_told_to_and_not_sooner(service: FakeTokenService, kind: str) -> None:
    service.refuse_refreshes = TooManyRetriesError(retry_after=0.4)
    async with AnySource(kind, service, tokens(service, life=-1), policy=IMPATIENT) as source:
        began = time.monotonic()
        with pytest.raises(TooManyRetriesError):
            await source.token()
        assert len(service.refresh_calls) <= (time.monotonic() - began) / 0.4 + 1


async def test_a_refused_token_is_replaced_once(service: FakeTokenService, kind: str) -> None:
    first = tokens(service)
    async with AnySource(kind, service, first) as source:
        assert await source.token() == first.access_token
        source.invalidate(first.access_token)
        second = await source.token()
        source.invalidate(first.access_token)
        assert await source.token() == second
        assert len(service.refresh_calls) == 1


async def test_a_store_that_fails_costs_nothing_but_a_line_in_the_log(
    service: FakeTokenService, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with AnySource(kind, service, tokens(service, life=-1)) as source:
        source.store.broken = True
        with caplog.at_level(logging.ERROR):
            token = await source.token()
        assert "no space left" in caplog.text
        assert token not in caplog.text
        source.store.broken = False
    assert source.store.saves == 1  # at the end at the latest


async def test_nothing_to_begin_with(service: FakeTokenService, kind: str) -> None:
    async with AnySource(kind, service, None) as source:
        with pytest.raises(RefreshTokenInvalidError, match="begin with"):
            await source.token()
        await source.do("replace", tokens(service))
        await source.token()


async def test_narrows_what_it_asks_for(service: FakeTokenService, kind: str) -> None:
    options = {"scopes": ["read"], "audience": ["api"], "device_id": "phone"}
    async with AnySource(kind, service, tokens(service, life=-1), **options) as source:
        await source.token()
        call = service.refresh_calls[0]
        assert (list(call.scopes), list(call.audience), call.device_id) == (["read"], ["api"], "phone")


def test_threads_share_one_renewal(service: FakeTokenService) -> None:
    with grpc.insecure_channel(service.address) as channel:
        source = SyncTokenSource(
            TokenServiceStub(channel), client_id="web", store=Store(tokens(service, life=-1)), policy=PATIENT
        )
        got: list[str] = []
        threads = [threading.Thread(target=lambda: got.append(source.token())) for _ in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(got) == 20
        assert len(set(got)) == 1
        assert len(service.refresh_calls) == 1
        source.close()


def test_tokens_do_not_show_themselves(service: FakeTokenService) -> None:
    known = tokens(service)
    assert known.access_token not in repr(known)
    assert known.refresh_token not in repr(known)


@pytest.mark.parametrize(
    "bad", [{"ahead": 0}, {"ahead": 0.9}, {"attempt_timeout": 0}, {"give_up_after": -1}], ids=str
)
def test_policies_that_can_not_be(bad: dict[str, float]) -> None:
    with pytest.raises(ConfigurationError):
        RenewalPolicy(**bad)  # type: ignore[arg-type]


class Api:
    """Answers 401 to all tokens but the last."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.seen: list[str] = []
        self.challenge = 'Bearer error="invalid_token"'

    def __call__(self, request: httpx.Request) -> httpx.Response:
        token = request.headers["Authorization"].removeprefix("Bearer ")
        self.seen.append(token)
        if token in self.bad:
            return httpx.Response(401, headers={"WWW-Authenticate": self.challenge})
        return httpx.Response(200, json={"body": request.content.decode()})


async def request(source: AnySource, api: Api) -> httpx.Response:
    transport = httpx.MockTransport(api)
    if isinstance(source.real, TokenSource):
        async with httpx.AsyncClient(transport=transport, auth=TokenAuth(source.real)) as client:
            return await client.post("https://api.test/x", content=b"hello")

    def blocking() -> httpx.Response:
        with httpx.Client(transport=transport, auth=TokenAuth(source.real)) as client:
            return client.post("https://api.test/x", content=b"hello")

    return await asyncio.to_thread(blocking)


async def test_httpx_sends_the_token_and_tries_a_new_one_once(service: FakeTokenService, kind: str) -> None:
    first = tokens(service)
    api = Api()
    async with AnySource(kind, service, first) as source:
        assert (await request(source, api)).json() == {"body": "hello"}
        assert api.seen == [first.access_token]
        api.bad.add(first.access_token)
        assert (await request(source, api)).json() == {"body": "hello"}
        assert len(service.refresh_calls) == 1
        api.bad.add(await source.token())
        api.challenge = 'Bearer error="insufficient_scope"'
        assert (await request(source, api)).status_code == 401
        assert len(service.refresh_calls) == 1


async def test_httpx_needs_the_source_of_its_kind(service: FakeTokenService) -> None:
    async with AnySource("async", service, tokens(service)) as source:
        client = httpx.Client(transport=httpx.MockTransport(Api()), auth=TokenAuth(source.real))
        with pytest.raises(ConfigurationError):
            client.get("https://api.test/x")  # noqa: ASYNC212  # it is what is refused
    async with AnySource("sync", service, tokens(service)) as source:
        other = httpx.AsyncClient(transport=httpx.MockTransport(Api()), auth=TokenAuth(source.real))
        with pytest.raises(ConfigurationError):
            await other.get("https://api.test/x")
