"""DPoP proofs of `TokenAuth`: nonces, redirects, repetitions, and what other hosts get to see."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import httpx
import pytest

from tests.support.both_sources import AnySource, Store, tokens_of
from tests.support.fake_token_service import FakeTokenService
from tests.support.token_mint import jwk_of, private_key, sign
from token_service.client import DpopKey, TokenAuth, TokenSource
from token_service.errors import ConfigurationError, InvalidTokenError
from token_service.tokens.dpop import DpopProof, verify_proof

KEY = DpopKey.generate()
HOME = "https://api.test"


class Api(httpx.BaseTransport, httpx.AsyncBaseTransport):
    """APIs on several hosts that demand a proof for the very request, once, and a nonce if they have one."""

    def __init__(self) -> None:
        self.seen: list[httpx.Request] = []
        self.proofs: list[DpopProof] = []
        self.bad: set[str] = set()
        self.nonces: dict[str, str] = {}
        """The nonce that a host demands."""
        self.offered: dict[str, str] = {}
        """The nonce that a host gives with an accepted request."""
        self.redirects: dict[str, tuple[int, str]] = {}
        self._used: set[str] = set()
        self._lock = threading.Lock()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.SyncByteStream)
        return self._answer(request, b"".join(request.stream))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        assert isinstance(request.stream, httpx.AsyncByteStream)
        return self._answer(request, b"".join([chunk async for chunk in request.stream]))

    def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
        with self._lock:
            self.seen.append(request)
            host, headers = request.url.host, dict[str, list[str]]()
            for name, value in request.headers.raw:  # as real transports read them
                headers.setdefault(name.decode().lower(), []).append(value.decode())
            if str(request.url) in self.redirects:
                status, location = self.redirects[str(request.url)]
                return httpx.Response(status, headers={"Location": location})
            scheme, _, token = headers.get("authorization", [""])[0].partition(" ")
            if scheme != "DPoP":
                return self._refuse("")
            if token in self.bad:
                return self._refuse("invalid_token")
            try:
                (proof,) = headers.get("dpop", [""])
                path = request.url.raw_path.decode().partition("?")[0]
                uri = f"{request.url.scheme}://{request.url.netloc.decode()}{path}"
                verified = verify_proof(proof, method=request.method, uri=uri, access_token=token)
            except InvalidTokenError:
                return self._refuse("invalid_dpop_proof")
            if verified.jkt != KEY.jkt or verified.proof_id in self._used:
                return self._refuse("invalid_dpop_proof")
            self._used.add(verified.proof_id)
            if host in self.nonces and verified.nonce != self.nonces[host]:
                return self._refuse("use_dpop_nonce", self.nonces[host])
            self.proofs.append(verified)
            offered = {"DPoP-Nonce": self.offered[host]} if host in self.offered else {}
            return httpx.Response(200, headers=offered, content=request.method.encode() + b" " + body)

    @staticmethod
    def _refuse(error: str, nonce: str | None = None) -> httpx.Response:
        said = f' error="{error}",' if error else ""
        headers = [
            ("WWW-Authenticate", f"Bearer{said[:-1]}"),
            ("WWW-Authenticate", f'DPoP{said} algs="ES256"'),
        ]
        if nonce is not None:
            headers.append(("DPoP-Nonce", nonce))
        return httpx.Response(401, headers=headers)


class Caller:
    """A client of the APIs with a token source."""

    def __init__(self, source: AnySource, api: Api) -> None:
        self._source = source
        self._api = api
        self._auth = TokenAuth(source.real)

    async def request(self, method: str, url: str, **options: Any) -> httpx.Response:
        if isinstance(self._source.real, TokenSource):
            async with httpx.AsyncClient(
                transport=self._api, auth=self._auth, follow_redirects=True
            ) as client:
                return await client.request(method, url, **options)

        def blocking() -> httpx.Response:
            with httpx.Client(transport=self._api, auth=self._auth, follow_redirects=True) as client:
                return client.request(method, url, **options)

        return await asyncio.to_thread(blocking)


def bound_tokens(service: FakeTokenService, **changes: Any) -> Any:
    token = service.mint.token(time.time(), cnf={"jkt": KEY.jkt})
    return replace(tokens_of(service), access_token=token, token_type="DPoP", **changes)


def source_of(kind: str, service: FakeTokenService, key: DpopKey | None = KEY, **changes: Any) -> AnySource:
    return AnySource(kind, service, Store(bound_tokens(service, **changes)), dpop_key=key)


async def test_each_request_has_its_own_proof(service: FakeTokenService, kind: str) -> None:
    api = Api()
    async with source_of(kind, service) as source:
        caller = Caller(source, api)
        for method, url in (
            ("GET", f"{HOME}/orders?page=1#top"),
            ("GET", f"{HOME}/orders?page=1#top"),
            ("POST", f"{HOME}:8443/a%2Fb/%E2%82%AC"),
            ("DELETE", "https://user:word@api.test"),
        ):
            answer = await caller.request(method, url, headers={"DPoP": "of the user"})
            assert (answer.status_code, answer.text) == (200, f"{method} ")
            headers = answer.request.headers
            assert [value for name, value in headers.multi_items() if name == "dpop"] == [headers["DPoP"]]
        assert len(api.seen) == 4


async def test_renewal_proves_the_key(service: FakeTokenService, kind: str) -> None:
    api = Api()
    first = bound_tokens(service)
    api.bad.add(first.access_token)
    async with AnySource(kind, service, Store(first), dpop_key=KEY) as source:
        assert (await Caller(source, api).request("POST", HOME, content=b"hello")).text == "POST hello"
        (call,) = service.refresh_calls
        binding = call.binding
        proof = verify_proof(
            binding.dpop_proof, method=binding.http_method, uri=binding.http_uri, access_token=None
        )
        assert proof.jkt == KEY.jkt
        assert binding.http_method == "POST"
        assert binding.http_uri.endswith("/token_service.v1.TokenService/RefreshToken")
        assert len(api.seen) == 2
        api.bad.add(await source.token())
        assert (await Caller(source, api).request("GET", HOME)).status_code == 200
        assert len(service.refresh_calls) == 2
        assert service.refresh_calls[1].binding.dpop_proof != binding.dpop_proof


async def test_newest_nonce_of_each_server_is_used(service: FakeTokenService, kind: str) -> None:
    api = Api()
    api.nonces = {"api.test": "one", "other.test": "two"}
    async with source_of(kind, service) as source:
        caller = Caller(source, api)
        for url in (HOME, "https://other.test", HOME, "https://other.test"):
            assert (await caller.request("PUT", url, content=b"hello")).text == "PUT hello"
        assert len(api.seen) == 6  # the first request to each server was refused
        assert [proof.nonce for proof in api.proofs] == ["one", "two", "one", "two"]
        api.offered["api.test"] = "three"
        await caller.request("GET", HOME)
        api.nonces["api.test"] = "three"
        assert (await caller.request("GET", HOME)).status_code == 200
        assert len(api.seen) == 8
        assert await source.token() == bound_token_of(api)
        assert service.refresh_calls == []


def bound_token_of(api: Api) -> str:
    return str(api.seen[0].headers["Authorization"].removeprefix("DPoP "))


async def test_server_that_always_asks_for_another_nonce_is_left(
    service: FakeTokenService, kind: str
) -> None:
    class Insatiable(Api):
        def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
            self.nonces["api.test"] = f"nonce-{len(self.seen)}"
            return super()._answer(request, body)

    class Stubborn(Api):
        def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
            super()._answer(request, body)
            return self._refuse("use_dpop_nonce", "same")

    async with source_of(kind, service) as source:
        for api, attempts in ((Insatiable(), 10), (Stubborn(), 2)):
            answer = await Caller(source, api).request("GET", HOME)
            assert answer.status_code == 401
            assert len(api.seen) == attempts


@pytest.mark.parametrize("error", ["invalid_dpop_proof", "insufficient_scope", "use_dpop_nonce", ""])
async def test_other_refusals_are_not_repeated(service: FakeTokenService, kind: str, error: str) -> None:
    class Refusing(Api):
        def _answer(self, request: httpx.Request, body: bytes) -> httpx.Response:
            super()._answer(request, body)
            return self._refuse(error)

    api = Refusing()
    async with source_of(kind, service) as source:
        assert (await Caller(source, api).request("GET", HOME)).status_code == 401
        assert len(api.seen) == 1
        assert service.refresh_calls == []


async def test_redirect_within_the_origin_gets_a_proof_for_its_uri(
    service: FakeTokenService, kind: str
) -> None:
    api = Api()
    api.redirects = {
        f"{HOME}/a": (307, f"{HOME}/b"),
        f"{HOME}/b": (307, "/c?d=1"),
        f"{HOME}/form": (303, "/c"),
    }
    async with source_of(kind, service) as source:
        caller = Caller(source, api)
        assert (await caller.request("POST", f"{HOME}/a", content=b"hello")).text == "POST hello"
        assert (await caller.request("POST", f"{HOME}/form", content=b"hello")).text == "GET "
        assert len(api.proofs) == 2
        for request in api.seen:
            proof = dict(request.headers.raw).get(b"DPoP")
            if proof is not None:  # no proof for another URI was sent
                verify_proof(
                    proof.decode(),
                    method=request.method,
                    uri=f"{HOME}{request.url.path}",
                    access_token=bound_token_of(api),
                )


async def test_other_hosts_get_neither_token_nor_proof(service: FakeTokenService, kind: str) -> None:
    api = Api()
    api.redirects = {f"{HOME}/a": (307, "https://elsewhere.test/b")}
    api.offered = {"elsewhere.test": "evil"}
    async with source_of(kind, service) as source:
        answer = await Caller(source, api).request("POST", f"{HOME}/a", content=b"hello")
        assert answer.status_code == 401
        here, elsewhere = api.seen
        assert b"DPoP" in dict(here.headers.raw)
        names = {name.lower() for name, _ in elsewhere.headers.raw}
        assert names.isdisjoint({b"authorization", b"dpop"})
        assert "dpop" not in elsewhere.headers


async def test_streamed_body_is_sent_once_and_the_next_request_has_the_nonce(
    service: FakeTokenService, kind: str
) -> None:
    async def parts() -> Any:
        yield b"hello"

    def blocking_parts() -> Iterator[bytes]:
        yield b"hello"

    api = Api()
    api.nonces["api.test"] = "one"
    async with source_of(kind, service) as source:
        caller = Caller(source, api)
        make = parts if kind == "async" else blocking_parts
        assert (await caller.request("POST", HOME, content=make())).status_code == 401
        assert len(api.seen) == 1
        assert (await caller.request("POST", HOME, content=make())).text == "POST hello"
        assert len(api.seen) == 2


async def test_bound_token_without_a_key_is_not_sent(service: FakeTokenService, kind: str) -> None:
    api = Api()
    async with source_of(kind, service, key=None) as source:
        with pytest.raises(ConfigurationError, match="dpop_key"):
            await Caller(source, api).request("GET", HOME)
        assert api.seen == []


async def test_bearer_token_of_a_source_with_a_key_is_sent_as_bearer(
    service: FakeTokenService, kind: str
) -> None:
    api = Api()
    async with AnySource(kind, service, Store(tokens_of(service)), dpop_key=KEY) as source:
        await Caller(source, api).request("GET", HOME)
        (request,) = api.seen
        assert request.headers["Authorization"].startswith("Bearer ")
        assert "dpop" not in request.headers


async def test_given_signer_does_not_block_the_event_loop(service: FakeTokenService, kind: str) -> None:
    private = private_key("ES256", "signer")
    threads: set[int] = set()

    def signer(data: bytes) -> bytes:
        threads.add(threading.get_ident())
        return sign(private, data)

    first = bound_tokens(service, access_expire_time=0.0)
    async with AnySource(kind, service, Store(first), dpop_key=DpopKey(signer, jwk_of(private))) as source:
        await Caller(source, Api()).request("GET", HOME)
        assert len(service.refresh_calls) == 1
    assert threads
    assert threading.get_ident() not in threads


async def test_failing_signer_is_asked_again(service: FakeTokenService, kind: str) -> None:
    private = private_key("ES256", "signer")
    failures = [OSError("busy"), OSError("busy")]

    def signer(data: bytes) -> bytes:
        if failures:
            raise failures.pop()
        return sign(private, data)

    first = bound_tokens(service, access_expire_time=0.0)
    async with AnySource(kind, service, Store(first), dpop_key=DpopKey(signer, jwk_of(private))) as source:
        assert await source.token() != first.access_token
        assert len(service.refresh_calls) == 1


async def test_concurrent_requests_share_the_nonce(service: FakeTokenService, kind: str) -> None:
    api = Api()
    api.nonces["api.test"] = "one"
    async with source_of(kind, service) as source:
        caller = Caller(source, api)
        answers = await asyncio.gather(*(caller.request("GET", f"{HOME}/{n}") for n in range(20)))
        assert {answer.status_code for answer in answers} == {200}
        assert len(api.proofs) == 20
