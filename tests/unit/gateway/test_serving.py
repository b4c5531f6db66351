from __future__ import annotations

import asyncio
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest

from tests.support.fake_token_service import FakeTokenService
from tests.unit.gateway.conftest import envoy_request, minimal
from token_service.errors import ConfigurationError
from token_service.gateway import serving
from token_service.gateway.envoy.external_auth_pb2 import CheckRequest, CheckResponse
from token_service.gateway.gateway import Gateway
from token_service.gateway.loading import load
from token_service.gateway.metrics import Metrics

CHECK = "/envoy.service.auth.v3.Authorization/Check"


@pytest.fixture
def made(service: FakeTokenService, tmp_path: Path) -> Gateway:
    path = tmp_path / "gateway.toml"
    path.write_text(
        minimal("[limits]\nrequest_bytes = 4096", issuer=service.issuer, target=service.address).replace(
            "[listen]", '[listen]\nsocket_mode = "0600"'
        )
    )
    return Gateway(path, load(path), Metrics())


async def test_sockets_have_the_configured_permissions_and_serve(made: Gateway, tmp_path: Path) -> None:
    metrics = Metrics()
    for _ in range(2):  # the sockets of the first run are still there in the second one
        async with (
            made,
            serving._grpc(f"unix:{tmp_path}/grpc.sock", made, metrics) as address,
            serving._http(f"unix:{tmp_path}/http.sock", made, metrics),
        ):
            for name in ("grpc.sock", "http.sock"):
                assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
            async with grpc.aio.insecure_channel(address) as channel:
                call: Any = channel.unary_unary(
                    CHECK, CheckRequest.SerializeToString, CheckResponse.FromString
                )
                response = await call(envoy_request(), timeout=30)
                assert response.denied_response.status.code == 401
                with pytest.raises(grpc.aio.AioRpcError) as raised:
                    await call(envoy_request("Bearer " + "a" * 5000), timeout=30)
                assert raised.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            transport = httpx.AsyncHTTPTransport(uds=f"{tmp_path}/http.sock")
            async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
                assert (await client.get("/livez")).text == "ok"
                big = {"x-big": "a" * 5000}
                assert (await client.get("/livez", headers=big)).status_code == 431
    assert (
        b'token_gateway_checks_total{edge="grpc",outcome="refused",reason="no_token"} 2.0' in metrics.text()
    )


async def test_ports_are_chosen_and_announced(made: Gateway) -> None:
    metrics = Metrics()
    async with (
        made,
        serving._grpc("127.0.0.1:0", made, metrics) as grpc_address,
        serving._http("127.0.0.1:0", made, metrics) as http_address,
    ):
        assert not grpc_address.endswith(":0")
        async with httpx.AsyncClient(
            base_url=f"http://{http_address}", trust_env=False, timeout=60
        ) as client:
            assert (await client.get("/livez")).status_code == 200
        with pytest.raises(ConfigurationError, match=r"listen\.http: can't listen on"):
            async with serving._http(http_address, made, metrics):
                pass
        with pytest.raises(ConfigurationError, match=r"listen\.grpc: can't listen on"):
            async with serving._grpc(grpc_address, made, metrics):
                pass


@pytest.mark.parametrize("address", ["localhost", ":80", "localhost:http", "localhost:70000", "localhost:²"])
def test_wrong_address_is_refused(address: str) -> None:
    with pytest.raises(ConfigurationError, match="write HOST:PORT or unix:PATH"):
        serving._host_port("listen.http", address)


def test_address_of_ipv6() -> None:
    assert serving._host_port("listen.http", "[::1]:80") == ("::1", 80)
    assert serving._joined("::1", 80) == "[::1]:80"


async def test_no_address_serves_nothing(made: Gateway) -> None:
    async with serving._grpc("", made, Metrics()) as one, serving._http("", made, Metrics()) as other:
        assert (one, other) == ("", "")


async def test_second_signal_ends_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    end: Callable[[int], None] = ended.append
    monkeypatch.setattr(os, "_exit", end)
    stop = asyncio.Event()
    serving._heed(stop)
    assert (stop.is_set(), ended) == (True, [])
    serving._heed(stop)
    assert ended == [1]
