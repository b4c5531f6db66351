from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Protocol

import pytest

from tests.support.fake_token_service import FakeTokenService
from tests.support.token_mint import AUDIENCE
from token_service.client.validator import TokenValidator
from token_service.gateway.envoy.external_auth_pb2 import CheckRequest, CheckResponse
from token_service.gateway.loading import Parts, build, load
from token_service.tokens.possession import PossessionChecker


@pytest.fixture
def service() -> Iterator[FakeTokenService]:
    with FakeTokenService() as fake:
        yield fake


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str], Path]:
    """Return a function that writes a configuration file."""

    def write(text: str) -> Path:
        path = tmp_path / "gateway.toml"
        path.write_text(text)
        return path

    return write


def minimal(rest: str = "", *, issuer: str = "https://tokens.example", target: str = "127.0.0.1:1") -> str:
    """Return the text of a configuration file. `rest` begins with keys of `[tokens]`."""
    return f"""
        [listen]
        grpc = "127.0.0.1:0"
        [issuer]
        issuer = "{issuer}"
        target = "{target}"
        remote_timeout = 30
        freshness_bound = 9
        [tokens]
        audience = "{AUDIENCE}"
        {rest}
        """


class MakeGateway(Protocol):
    def __call__(self, rest: str = "", *, ready: bool = True) -> AbstractAsyncContextManager[Parts]: ...


@pytest.fixture
def gateway(service: FakeTokenService, write: Callable[[str], Path]) -> MakeGateway:
    """Return a context manager of a gateway without servers, beside a token service."""

    @asynccontextmanager
    async def made(rest: str = "", *, ready: bool = True) -> AsyncIterator[Parts]:
        loaded = load(write(minimal(rest, issuer=service.issuer, target=service.address)))
        async with TokenValidator(loaded.validator) as validator:
            if ready:
                assert await validator.wait_ready(60)
            yield build(loaded, validator, PossessionChecker(nonces=loaded.nonces))

    return made


def bearer(service: FakeTokenService, **claims: Any) -> str:
    """Return the value of an `Authorization` header."""
    return f"Bearer {service.mint.token(time.time(), **claims)}"


def envoy_request(
    authorization: str | None = None,
    *,
    method: str = "GET",
    path: str = "/orders",
    certificate: str = "",
    headers: dict[str, str] | None = None,
    **extensions: str,
) -> CheckRequest:
    """Return a check as Envoy sends it."""
    request = CheckRequest()
    attributes = request.attributes
    http = attributes.request.http
    http.method, http.path, http.host, http.scheme = method, path, "api.example", "https"
    if authorization is not None:
        http.headers["authorization"] = authorization
    for name, value in (headers or {}).items():
        http.headers[name] = value
    for name, value in extensions.items():
        attributes.context_extensions[name] = value
    attributes.source.certificate = certificate
    return request


async def ask_envoy(parts: Parts, *arguments: Any, **options: Any) -> CheckResponse:
    """Return the response to a check of `envoy_request`."""
    _, response = await parts.ext_authz.check(envoy_request(*arguments, **options))
    return CheckResponse.FromString(response)


def denied(response: CheckResponse) -> tuple[int, dict[str, str]]:
    """Return status and headers of a denial."""
    assert response.WhichOneof("http_response") == "denied_response"
    assert response.status.code != 0
    found = response.denied_response
    return found.status.code, {option.header.key: option.header.value for option in found.headers}


def allowed(response: CheckResponse) -> tuple[dict[str, str], set[str]]:
    """Return the headers that Envoy sets and removes in an allowed request."""
    assert response.status.code == 0
    assert response.WhichOneof("http_response") == "ok_response"
    found = response.ok_response
    assert {option.append_action for option in found.headers} <= {2}, "OVERWRITE_IF_EXISTS_OR_ADD"
    return {option.header.key: option.header.value for option in found.headers}, set(found.headers_to_remove)
