"""`IssuingTokenSource` and its twin for threads, with both ways to get a token."""

from __future__ import annotations

import asyncio
import json
import threading
from base64 import b64decode
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Self
from unittest.mock import MagicMock

import grpc
import httpx
import pytest

from tests.support.both_sources import IMPATIENT, PATIENT
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.raw_http_server import RawHttpServer, send
from tests.support.token_endpoint import TokenEndpoint
from token_service.client import (
    AccessTokens,
    Backoff,
    ClientCredentials,
    IssuedByCall,
    IssuingTokenSource,
    Secret,
    SyncIssuingTokenSource,
    TokenAuth,
    TokenCallCredentials,
    TokenIssuance,
    Tokens,
)
from token_service.client._internal.clock import SystemValidatorClock
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    GrantInvalidError,
    InternalError,
    InvalidRequestError,
    OverloadedError,
    PermissionDeniedError,
    PolicyViolationError,
    RateLimitedError,
    ScopeExceededError,
    ServiceError,
    StoreUnavailableError,
    UnreachableError,
)
from token_service.v1.token_pb2 import TOKEN_TYPE_ACCESS, TOKEN_TYPE_REFRESH
from token_service.v1.token_service_pb2 import IssueTokenRequest
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

REQUEST = IssueTokenRequest(subject="worker", client_id="worker", scopes=["read"])


class Source:
    """Either source, with a clock that a test moves."""

    def __init__(self, kind: str, way: str, service: FakeTokenService, url: str, **options: Any) -> None:
        self.passed = 0.0
        elapsed = SystemValidatorClock().elapsed
        self._channel: Any = (grpc.aio if kind == "async" else grpc).insecure_channel(service.address)
        issuance: TokenIssuance = (
            credentials_of(url) if way == "http" else IssuedByCall(TokenServiceStub(self._channel), REQUEST)
        )
        make = IssuingTokenSource if kind == "async" else SyncIssuingTokenSource
        self.real: IssuingTokenSource | SyncIssuingTokenSource = make(
            issuance, elapsed=lambda: elapsed() + self.passed, **{"policy": PATIENT, **options}
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.do("close")
        closed = self._channel.close()
        if closed is not None:
            await closed

    async def do(self, name: str) -> Any:
        if isinstance(self.real, IssuingTokenSource):
            return await getattr(self.real, name)()
        return await asyncio.to_thread(getattr(self.real, name))

    async def token(self) -> str:
        return str(await self.do("token"))


def credentials_of(url: str, **options: Any) -> ClientCredentials:
    known = {"client_id": "worker", "secret": Secret(b"s%:1"), "scopes": ["read"], "audience": ["api"]}
    return ClientCredentials(token_url=url, **{**known, **options})


@pytest.fixture
def endpoint(service: FakeTokenService) -> Iterator[TokenEndpoint]:
    with TokenEndpoint(service) as endpoint:
        yield endpoint


@pytest.fixture(params=["http", "grpc"])
def way(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def make(service: FakeTokenService, endpoint: TokenEndpoint, kind: str, way: str) -> Any:
    return lambda **options: Source(kind, way, service, endpoint.url, **options)


async def test_first_token_is_fetched_once_for_all_callers(make: Any, service: FakeTokenService):
    async with make() as source:
        got = await asyncio.gather(*(source.token() for _ in range(20)))
        assert len(set(got)) == len(service.issue_calls) == 1
        tokens = await source.do("tokens")
        assert (tokens.access_token, tokens.refresh_token, tokens.scopes) == (got[0], "", ("read",))


async def test_renewal_ahead_of_expiry_delays_no_caller(make: Any, service: FakeTokenService):
    async def is_replaced() -> bool:
        return await source.token() != first

    async with make() as source:
        first = await source.token()
        source.passed = 900 * 0.6
        assert await source.token() == first
        assert len(service.issue_calls) == 1
        service.refresh_gate.clear()
        source.passed = 900 * 0.85
        assert await source.token() == first
        await eventually(lambda: len(service.issue_calls) == 2)
        assert await source.token() == first
        service.refresh_gate.set()
        await eventually(is_replaced)
        assert len(service.issue_calls) == 2


async def test_expired_token_is_never_returned(make: Any, service: FakeTokenService):
    async with make() as source:
        first = await source.token()
        source.passed = 898
        assert await source.token() != first


async def test_invalidated_token_is_replaced_and_an_old_one_changes_nothing(
    make: Any, service: FakeTokenService
):
    async with make() as source:
        first = await source.token()
        source.real.invalidate(first)
        second = await source.token()
        source.real.invalidate(first)
        assert await source.token() == second != first
        assert len(service.issue_calls) == 2


async def test_lost_answers_are_asked_for_again(make: Any, service: FakeTokenService):
    service.lose_refreshes = 3
    async with make() as source:
        await source.token()
        assert len(service.issue_calls) == 4


@pytest.mark.parametrize("error", [CallerUnauthenticatedError, PermissionDeniedError, PolicyViolationError])
async def test_refusal_is_raised_with_its_type_and_not_asked_for_again_at_once(
    make: Any, service: FakeTokenService, error: type[ServiceError]
):
    service.refuse_refreshes = error()
    policy = replace(PATIENT, backoff=Backoff(initial=0.01, longest=300.0))
    async with make(policy=policy) as source:
        for _ in range(5):
            with pytest.raises(error):
                await source.token()
        assert len(service.issue_calls) == 1
        service.refuse_refreshes = None
        source.passed = 301.0
        await source.token()
        assert len(service.issue_calls) == 2


async def test_rate_limit_is_obeyed(make: Any, service: FakeTokenService):
    service.refuse_refreshes = RateLimitedError(retry_after=300.0)
    async with make() as source:
        with pytest.raises(RateLimitedError):
            await source.token()
        service.refuse_refreshes = None
        source.passed = 250
        with pytest.raises(RateLimitedError):
            await source.token()
        assert len(service.issue_calls) == 1
        source.passed = 301
        await source.token()


async def test_token_is_used_until_expiry_while_the_service_is_unavailable(
    make: Any, service: FakeTokenService
):
    async with make(policy=IMPATIENT) as source:
        first = await source.token()
        service.refuse_refreshes = StoreUnavailableError()
        source.passed = 800
        assert await source.token() == first
        await eventually(lambda: len(service.issue_calls) >= 3)
        source.passed = 898
        with pytest.raises(StoreUnavailableError):
            await source.token()


async def test_age_is_counted_from_before_the_call(make: Any, service: FakeTokenService):
    """A slow answer makes a token older than its receipt says."""
    service.refresh_gate.clear()
    async with make() as source:
        waiting = asyncio.create_task(source.token())
        await eventually(lambda: len(service.issue_calls) == 1)
        source.passed = 898
        service.refresh_gate.set()
        first = await waiting
        assert await source.token() != first


async def test_cancelled_caller_does_not_cancel_the_call(service: FakeTokenService, endpoint: TokenEndpoint):
    service.refresh_gate.clear()
    async with Source("async", "http", service, endpoint.url) as source:
        waiting = asyncio.create_task(source.token())
        await eventually(lambda: len(service.issue_calls) == 1)
        waiting.cancel()
        service.refresh_gate.set()
        await source.token()
        assert len(service.issue_calls) == 1


def test_client_credentials_are_sent_as_registered(service: FakeTokenService, endpoint: TokenEndpoint):
    issued = credentials_of(endpoint.url, scopes=["read", "write"], audience=["a", "b"]).obtain(60)
    form, headers = endpoint.requests[0]
    assert form == {"grant_type": ["client_credentials"], "scope": ["read write"], "resource": ["a", "b"]}
    assert b64decode(headers["Authorization"].removeprefix("Basic ")) == b"worker:s%25%3A1"
    assert (issued.life, issued.tokens.token_type) == (900.0, "Bearer")
    count = iter(range(9))
    assertion = credentials_of(
        endpoint.url, secret=None, assertion=lambda: f"jwt-{next(count)}", scopes=(), audience=()
    )
    for number in range(2):
        assertion.obtain(60)
        form, headers = endpoint.requests[-1]
        assert form == {
            "grant_type": ["client_credentials"],
            "client_id": ["worker"],
            "client_assertion_type": ["urn:ietf:params:oauth:client-assertion-type:jwt-bearer"],
            "client_assertion": [f"jwt-{number}"],
        }
        assert "Authorization" not in headers


def test_rotated_secret_is_used_at_once(endpoint: TokenEndpoint):
    secrets = [Secret(b"old"), Secret(b"new")]
    credentials = credentials_of(endpoint.url, secret=lambda: secrets.pop(0))
    credentials.obtain(60)
    credentials.obtain(60)
    sent = [b64decode(h["Authorization"].removeprefix("Basic ")) for _, h in endpoint.requests]
    assert sent == [b"worker:old", b"worker:new"]


@pytest.mark.parametrize(
    ("status", "body", "error"),
    [
        (400, {"error": "invalid_scope"}, ScopeExceededError),
        (400, {"error": "invalid_scope", "reason": "POLICY_VIOLATION"}, PolicyViolationError),
        (400, {"error": "invalid_grant"}, GrantInvalidError),
        (401, {"error": "invalid_client"}, CallerUnauthenticatedError),
        (400, {"error": "invalid_request", "reason": "INVALID_REQUEST"}, InvalidRequestError),
        (400, {"error": 7, "reason": ["REVOKED"]}, InvalidRequestError),
        (400, {"error": "of_the_future", "reason": "FROM_THE_FUTURE"}, InvalidRequestError),
        (307, b"", InvalidRequestError),
        (401, b"<html>", CallerUnauthenticatedError),
        (429, b"", OverloadedError),
        (502, b"<html>bad gateway", UnreachableError),
        (503, {"error": "temporarily_unavailable"}, UnreachableError),
        (200, b"[]", InternalError),
        (200, b"<html>", InternalError),
        (200, {"token_type": "Bearer", "expires_in": 60}, InternalError),
        (200, {"access_token": "", "token_type": "Bearer", "expires_in": 60}, InternalError),
        (200, {"access_token": "a", "token_type": "Bearer"}, InternalError),
        (200, {"access_token": "a", "token_type": "Bearer", "expires_in": True}, InternalError),
        (200, {"access_token": "a", "token_type": "Bearer", "expires_in": -1}, InternalError),
        (200, {"access_token": ["a"], "token_type": "Bearer", "expires_in": 60}, InternalError),
        (200, b" " * 300_000, UnreachableError),
    ],
)
def test_answer_of_the_token_endpoint_becomes_a_typed_error(
    endpoint: TokenEndpoint, status: int, body: Any, error: type[ServiceError]
):
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    endpoint.scripted.append((status, {"Location": "http://127.0.0.1:1/"}, content))
    with pytest.raises(ServiceError) as raised:
        credentials_of(endpoint.url).obtain(60)
    assert type(raised.value) is error
    assert "s%:1" not in str(raised.value)


def test_endpoint_that_answers_nonsense_or_too_late_is_unreachable():
    for data in (b"", b"HTTP/1.1 abc\r\n\r\n"):
        with RawHttpServer(send(data)) as server, pytest.raises(UnreachableError):
            credentials_of(server.url).obtain(60)
    silence = threading.Event()
    with RawHttpServer(lambda _: wait_for(silence)) as server:
        with pytest.raises(UnreachableError):
            credentials_of(server.url).obtain(0.2)
        silence.set()


def wait_for(event: threading.Event) -> None:
    event.wait(60)


@pytest.mark.parametrize(
    "options",
    [
        {"token_url": "http://tokens.example/token"},
        {"token_url": "ftp://127.0.0.1/token"},
        {"client_id": ""},
        {"secret": None},
        {"assertion": lambda: "jwt"},
    ],
)
def test_unusable_configuration_is_refused(options: dict[str, Any]):
    with pytest.raises(ConfigurationError):
        ClientCredentials(
            **{"token_url": "https://t/token", "client_id": "a", "secret": Secret(b"s"), **options}
        )


def test_calls_issue_only_an_access_token(service: FakeTokenService):
    with grpc.insecure_channel(service.address) as channel:
        IssuedByCall(TokenServiceStub(channel), REQUEST).obtain(60)
    (call,) = service.issue_calls
    assert list(call.token_types) == [TOKEN_TYPE_ACCESS]
    assert (call.subject, list(call.scopes)) == ("worker", ["read"])
    assert not REQUEST.token_types
    with pytest.raises(ConfigurationError):
        IssuedByCall(None, IssueTokenRequest(token_types=[TOKEN_TYPE_REFRESH]))


def test_secrets_are_in_no_representation():
    text = repr(credentials_of("https://t/token"))
    assert "s%:1" not in text
    assert "worker" in text


async def test_httpx_sends_the_token_and_gets_another_one_after_a_refusal(
    make: Any, service: FakeTokenService
):
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        challenge = {"WWW-Authenticate": 'Bearer error="invalid_token"'}
        return httpx.Response(200) if len(seen) > 1 else httpx.Response(401, headers=challenge)

    transport = httpx.MockTransport(answer)
    async with make() as source:
        if isinstance(source.real, IssuingTokenSource):
            async with httpx.AsyncClient(transport=transport, auth=TokenAuth(source.real)) as client:
                assert (await client.get("https://api.test/")).status_code == 200
        else:
            with httpx.Client(transport=transport, auth=TokenAuth(source.real)) as blocking:
                response = await asyncio.to_thread(blocking.get, "https://api.test/")
                assert response.status_code == 200
        assert seen[1] == f"Bearer {await source.token()}" != seen[0]
    assert len(service.issue_calls) == 2


async def test_call_credentials_take_the_token(make: Any, service: FakeTokenService):
    answered: Future[Any] = Future()
    async with make() as source:
        plugin = TokenCallCredentials(source.real, asyncio.get_running_loop())
        await asyncio.to_thread(
            plugin, MagicMock(), lambda metadata, error: answered.set_result((metadata, error))
        )
        metadata, error = await asyncio.wrap_future(answered)
        assert (metadata, error) == ((("authorization", f"Bearer {await source.token()}"),), None)


class OwnSource:
    """A source that the library does not know."""

    def __init__(self) -> None:
        self.refused: list[str] = []

    async def token(self) -> str:
        return (await self.tokens()).access_token

    async def tokens(self) -> Tokens:
        return Tokens(access_token="own", access_expire_time=0.0, refresh_token="")

    def invalidate(self, access_token: str) -> None:
        self.refused.append(access_token)

    async def close(self) -> None:
        pass


async def test_any_object_with_the_methods_of_a_source_is_one():
    source: AccessTokens = OwnSource()
    seen: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        seen.append(request.headers["Authorization"])
        return httpx.Response(200)

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, auth=TokenAuth(source)) as client:
        await client.get("https://api.test/")
    assert seen == ["Bearer own"]
    with (
        httpx.Client(transport=transport, auth=TokenAuth(source)) as blocking,
        pytest.raises(ConfigurationError, match="source for threads"),
    ):
        await asyncio.to_thread(blocking.get, "https://api.test/")
