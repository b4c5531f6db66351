from __future__ import annotations

import asyncio
import io
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import httpx
import pytest

from tests.support.both_sources import AnySource, Store, tokens_of
from tests.support.fake_token_service import FakeTokenService
from token_service.client import TokenSource
from token_service.client.httpx_auth import TokenAuth
from token_service.errors import ConfigurationError


class Api(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """An API that answers 401 to bad tokens and 200 with the body to others, and reads bodies as a stream."""

    def __init__(self) -> None:
        self.bad: set[str] = set()
        self.seen: list[str] = []
        self.challenge = 'Bearer error="invalid_token"'
        self.redirect = ""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        return self._answer(request, b"".join(request.stream))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        return self._answer(request, b"".join([chunk async for chunk in request.stream]))

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        if self.redirect and request.url.host == "api.test":
            return httpx.Response(307, headers={"Location": self.redirect})
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        self.seen.append(token)
        if not token or token in self.bad:
            return httpx.Response(401, headers={"WWW-Authenticate": self.challenge})
        return httpx.Response(200, content=body)


async def post(source: AnySource, api: Api, **request: Any) -> httpx.Response:
    request = request or {"content": b"hello"}
    if isinstance(source.real, TokenSource):
        async with httpx.AsyncClient(
            transport=api, auth=TokenAuth(source.real), follow_redirects=True
        ) as client:
            return await client.post("https://api.test/x", **request)

    def blocking() -> httpx.Response:
        with httpx.Client(transport=api, auth=TokenAuth(source.real), follow_redirects=True) as client:
            return client.post("https://api.test/x", **request)

    return await asyncio.to_thread(blocking)


async def test_token_is_sent_and_renewed_once_after_a_refusal(service: FakeTokenService, kind: str) -> None:
    first = tokens_of(service)
    api = Api()
    async with AnySource(kind, service, Store(first)) as source:
        assert (await post(source, api)).content == b"hello"
        assert api.seen == [first.access_token]
        api.bad.add(first.access_token)
        assert (await post(source, api)).content == b"hello"
        assert len(service.refresh_calls) == 1
        api.bad.add(await source.token())
        api.challenge = 'Bearer error="insufficient_scope"'
        assert (await post(source, api)).status_code == 401
        assert len(service.refresh_calls) == 1


@pytest.mark.parametrize(
    ("challenge", "repeated"),
    [
        ("Bearer error=invalid_token", 1),
        ('bearer Error = "invalid_token"', 1),
        ('Basic realm="x", Bearer realm="y",error="invalid_token"', 1),
        ('Basic realm="x", error="invalid_token"', 0),
        (r'Basic realm="Bearer error=\"invalid_token\""', 0),
        ('Bearer error="invalid_token_x"', 0),
        ("Bearer", 0),
        ("", 0),
    ],
)
async def test_only_an_invalid_token_challenge_refuses_the_token(
    service: FakeTokenService, kind: str, challenge: str, repeated: int
) -> None:
    first = tokens_of(service)
    api = Api()
    api.bad.add(first.access_token)
    api.challenge = challenge
    async with AnySource(kind, service, Store(first)) as source:
        assert (await post(source, api)).status_code == (200 if repeated else 401)
        assert len(api.seen) == 1 + repeated
        assert len(service.refresh_calls) == repeated


class Pipe(io.RawIOBase):
    """A file that can be read once."""

    def __init__(self) -> None:
        self._parts = [b"hel", b"lo", b""]

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return False

    def read(self, size: int = -1) -> bytes:
        return self._parts.pop(0)


def parts() -> Iterator[bytes]:
    yield b"hel"
    yield b"lo"


async def aio_parts() -> AsyncIterator[bytes]:
    for part in parts():
        yield part


STREAMS: dict[str, tuple[str, Callable[[], dict[str, Any]]]] = {
    "generator": ("sync", lambda: {"content": parts()}),
    "async_generator": ("async", lambda: {"content": aio_parts()}),
    "file": ("sync", lambda: {"content": io.BytesIO(b"hello")}),
    "file_with_length": (
        "sync",
        lambda: {"content": io.BytesIO(b"hello"), "headers": {"Content-Length": "5"}},
    ),
    "pipe": ("sync", lambda: {"content": Pipe()}),
    "multipart": ("sync", lambda: {"files": {"f": ("f", Pipe())}}),
    "async_multipart": ("async", lambda: {"files": {"f": ("f", Pipe())}}),
}


@pytest.mark.parametrize("name", STREAMS)
async def test_a_streamed_body_is_sent_once_and_the_next_request_has_a_new_token(
    service: FakeTokenService, name: str
) -> None:
    kind, request = STREAMS[name]
    first = tokens_of(service)
    api = Api()
    async with AnySource(kind, service, Store(first)) as source:
        sent = await post(source, api, **request())
        assert sent.status_code == 200
        assert b"hello" in sent.content
        api.bad.add(first.access_token)
        refused = await post(source, api, **request())
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, api.challenge)
        assert api.seen == [first.access_token] * 2
        assert b"hello" in (await post(source, api, **request())).content
        assert api.seen[2:] == [await source.token()]


@pytest.mark.parametrize(
    "request_",
    [
        {"content": b"hello"},
        {"content": "hello"},
        {"json": "hello"},
        {"data": {"a": "hello"}},
        {"content": b""},
    ],
    ids=["bytes", "text", "json", "form", "empty"],
)
async def test_a_body_in_memory_is_sent_again_whole(
    service: FakeTokenService, kind: str, request_: dict[str, Any]
) -> None:
    first = tokens_of(service)
    api = Api()
    async with AnySource(kind, service, Store(first)) as source:
        good = await post(source, api, **request_)
        api.bad.add(first.access_token)
        again = await post(source, api, **request_)
        assert (again.status_code, again.content) == (200, good.content)
        assert len(api.seen) == 3


async def test_refusal_by_a_host_without_the_token_is_ignored(service: FakeTokenService, kind: str) -> None:
    first = tokens_of(service)
    api = Api()
    api.redirect = "https://elsewhere.test/y"
    async with AnySource(kind, service, Store(first)) as source:
        assert (await post(source, api)).status_code == 401
        assert api.seen == [""]
        assert await source.token() == first.access_token
        assert service.refresh_calls == []


async def test_sync_and_async_clients_need_matching_sources(service: FakeTokenService) -> None:
    async with AnySource("async", service, Store(tokens_of(service))) as source:
        client = httpx.Client(transport=Api(), auth=TokenAuth(source.real))
        with pytest.raises(ConfigurationError):
            client.get("https://api.test/x")  # noqa: ASYNC212  # it is what is refused
    async with AnySource("sync", service, Store(tokens_of(service))) as source:
        other = httpx.AsyncClient(transport=Api(), auth=TokenAuth(source.real))
        with pytest.raises(ConfigurationError):
            await other.get("https://api.test/x")


MISSING = """
import sys
sys.modules["{absent}"] = None
try:
    from token_service.client import TokenAuth
except ModuleNotFoundError as error:
    print(error, error.__cause__, error.__suppress_context__)
from token_service.client import TokenSource
"""


@pytest.mark.parametrize(
    ("absent", "said"),
    [
        ("httpx", "TokenAuth needs httpx; install it: pip install httpx None True"),
        ("idna", "import of idna halted; None in sys.modules None False"),
    ],
)
def test_without_httpx_the_error_says_what_to_install(absent: str, said: str) -> None:
    program = MISSING.format(absent=absent)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.strip() == said
