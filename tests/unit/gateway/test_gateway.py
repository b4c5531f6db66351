from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from tests.support.token_mint import Mint
from tests.unit.gateway.conftest import allowed, bearer, denied, envoy_request, minimal
from token_service.gateway.envoy.external_auth_pb2 import CheckResponse
from token_service.gateway.gateway import Gateway
from token_service.gateway.loading import load
from token_service.gateway.metrics import Metrics

Write = Callable[[str], Path]


async def ask(gateway: Gateway, authorization: str, **extensions: str) -> CheckResponse:
    request: Any = envoy_request
    _, response = await gateway.ext_authz.check(request(authorization, **extensions))
    return CheckResponse.FromString(response)


def reloads(metrics: Metrics, outcome: str) -> float:
    prefix = f'token_gateway_reloads_total{{outcome="{outcome}"}} '
    lines = metrics.text().decode().splitlines()
    return next((float(line.removeprefix(prefix)) for line in lines if line.startswith(prefix)), 0.0)


async def test_reload_applies_a_good_file_and_keeps_the_old_one_for_a_bad_file(
    service: FakeTokenService, write: Write
) -> None:
    def text(rest: str = "") -> str:
        return minimal(rest, issuer=service.issuer, target=service.address)

    path, metrics = write(text()), Metrics()
    token = bearer(service, scope="read")
    async with Gateway(path, load(path), metrics) as gateway:
        await eventually(lambda: gateway.readiness()[0])
        assert denied(await ask(gateway, token, route="orders"))[0] == 403

        write(text('[routes.orders]\nscopes = ["read"]'))
        await gateway.reload()
        allowed(await ask(gateway, token, route="orders"))
        assert service.open_streams == 1, "the validator and its stream stay"

        write(text('[routes.orders]\nscopes = ["read", "write"'))
        await gateway.reload()
        allowed(await ask(gateway, token, route="orders"))
        await gateway.reload()
        assert (reloads(metrics, "applied"), reloads(metrics, "failed")) == (1, 2)

        write(text('[routes.orders]\nscopes = ["read"]'))
        await gateway.reload()
        assert reloads(metrics, "unchanged") == 1


async def test_new_issuers_replace_the_old_ones_when_they_are_ready(
    service: FakeTokenService, write: Write
) -> None:
    second = FakeTokenService()
    second.mint = Mint("ES256", "second", issuer="https://second.example")
    second.issuer, second.jwks = second.mint.issuer, [second.mint.jwk]
    with second:
        limits = "[limits]\ndeadline = 0.01\n[reload]\nready_timeout = 60"
        path, metrics = write(minimal(limits, issuer=service.issuer, target=service.address)), Metrics()
        async with Gateway(path, load(path), metrics) as gateway:
            await eventually(lambda: gateway.readiness()[0])
            write(minimal(limits, issuer=second.issuer, target=second.address))
            await gateway.reload()
            allowed(await ask(gateway, bearer(second)))
            assert denied(await ask(gateway, bearer(service)))[0] == 401
            await eventually(lambda: service.open_streams == 0)
            assert reloads(metrics, "applied") == 1


async def test_new_issuers_that_are_not_ready_are_not_used(service: FakeTokenService, write: Write) -> None:
    limits = "[reload]\nready_timeout = 0.1"
    path, metrics = write(minimal(limits, issuer=service.issuer, target=service.address)), Metrics()
    async with Gateway(path, load(path), metrics) as gateway:
        await eventually(lambda: gateway.readiness()[0])
        write(minimal(limits, issuer="https://nowhere.example", target="127.0.0.1:1"))
        await gateway.reload()
        allowed(await ask(gateway, bearer(service)))
        assert reloads(metrics, "failed") == 1


async def test_accepted_proofs_are_remembered_over_a_reload(service: FakeTokenService, write: Write) -> None:
    from tests.unit.tokens.dpop_proofs import ProofMaker

    def text(rest: str = "") -> str:
        proofs = '[proofs]\norigin = "https://api.example"'
        return minimal(f"{rest}\n{proofs}", issuer=service.issuer, target=service.address)

    maker = ProofMaker()
    token = service.mint.token(time.time(), cnf={"jkt": maker.jkt})
    proof = maker.proof(token=token, now=time.time())
    path = write(text())
    request = envoy_request(f"DPoP {token}", headers={"dpop": proof})
    async with Gateway(path, load(path), Metrics()) as gateway:
        await eventually(lambda: gateway.readiness()[0])
        allowed(CheckResponse.FromString((await gateway.ext_authz.check(request))[1]))
        write(text("leeway = 1"))
        await gateway.reload()
        assert gateway.loaded.validator.leeway == 1
        await eventually(lambda: gateway.readiness()[0])
        assert denied(CheckResponse.FromString((await gateway.ext_authz.check(request))[1]))[0] == 401


async def test_watch_reloads_a_changed_file_and_on_request(service: FakeTokenService, write: Write) -> None:
    def text(rest: str) -> str:
        return minimal(rest, issuer=service.issuer, target=service.address)

    path, metrics = write(text("[reload]\ninterval = 0.01")), Metrics()
    async with Gateway(path, load(path), metrics) as gateway:
        watching = asyncio.create_task(gateway.watch())
        write(text("[reload]\ninterval = 0\n[routes.a]"))
        await eventually(lambda: reloads(metrics, "applied") == 1)
        write(text("[reload]\ninterval = 0\n[routes.b]"))
        gateway.ask_reload()
        await eventually(lambda: reloads(metrics, "applied") == 2)
        assert set(gateway.loaded.settings.routes) == {"b"}
        watching.cancel()
        await asyncio.wait([watching])


async def test_readiness_says_how_stale_each_issuer_is(service: FakeTokenService, write: Write) -> None:
    rest = '[[foreign_issuers]]\nissuer = "https://other.example"\njwks_url = "https://127.0.0.1:1/jwks"'
    path, metrics = write(minimal(rest, issuer=service.issuer, target=service.address)), Metrics()
    async with Gateway(path, load(path), metrics) as gateway:
        await eventually(lambda: gateway._parts.validator.status().fresh)
        ready, details = gateway.readiness()
        assert not ready
        issuers: Any = details["issuers"]
        own, other = issuers
        assert other == {"issuer": "https://other.example", "ready": False, "has_keys": False}
        assert (own["issuer"], own["ready"], own["connected"]) == (service.issuer, True, True)
        assert 0 <= own["staleness_seconds"] < own["freshness_bound_seconds"] == 9
        page = metrics.text().decode().splitlines()
        assert "token_gateway_ready 0.0" in page
        assert "token_gateway_issuers_without_keys 1.0" in page
        assert any(line.startswith("token_gateway_staleness_seconds ") for line in page)


async def test_stopping_gateway_is_not_ready(service: FakeTokenService, write: Write) -> None:
    path = write(minimal(issuer=service.issuer, target=service.address))
    async with Gateway(path, load(path), Metrics()) as gateway:
        await eventually(lambda: gateway.readiness()[0])
        gateway.stopping = True
        ready, details = gateway.readiness()
        assert (ready, details["problem"]) == (False, "the gateway is stopping")
        allowed(await ask(gateway, bearer(service)))
