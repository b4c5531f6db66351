"""Nodes that a real Prometheus scrapes, with callers that do everything a panel shows, and with attackers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc
import httpx

from tests.integration.calls import Api
from tests.integration.nodes import Node, key_encryption_key
from tests.support.certificates import Authority
from tests.support.deadline import eventually
from tests.support.ports import free_port, release_port
from tests.support.postgres import PostgresServer
from tests.support.prometheus import Prometheus
from tests.support.redis import RedisServer
from tests.support.transmitter import AUDIENCE, Transmitter
from token_service.telemetry.monitoring.files import write
from token_service.telemetry.monitoring.site import Site
from token_service.v1.token_service_pb2 import (
    ConfirmRevocationsRequest,
    RefreshTokenRequest,
    RevokeTokenRequest,
)

PACE: Final = 30
"""The factor by which all times of the rules are shorter: five minutes last ten seconds."""
WORKERS: Final = (2, 4)
"""Workers of the two nodes. The node with TLS is one process."""
_POLICIES: Final = """\
[classifications.internal]
rates = {{ issue_per_subject = "20/1m" }}

[security_event_transmitters.corporate]
issuer = "{transmitter.issuer}"
keys = "{transmitter.issuer}/jwks"
audience = "{audience}"
algorithms = ["ES256"]
private = true
push = {{}}
poll = {{ endpoint = "{transmitter.issuer}/poll", token_file = "{directory}/poll", interval = "1s" }}
"""
_PAUSE: Final = 0.2
"""Seconds between two calls of an attacker: several a second, also on a busy machine."""


@dataclass
class World:
    """Two nodes with workers, a third one with TLS, and the servers below them."""

    nodes: tuple[Node, Node]
    tls: Node
    postgres: PostgresServer
    url: str
    redis: RedisServer
    policies: Path
    policy_text: str
    prometheus: Prometheus

    async def until_fired(self, *names: str) -> None:
        """Return when each of these alerts has fired since the call, with a description that has its values."""
        descriptions: dict[str, str] = {}

        async def fired() -> bool:
            for alert in await asyncio.to_thread(self.prometheus.alerts):
                if alert["state"] == "firing":
                    name = alert["labels"]["alertname"].removeprefix("TokenService")
                    descriptions[name] = alert["annotations"]["description"]
            missing = set(names) - set(descriptions)
            assert not missing, f"have not fired: {sorted(missing)}"
            return True

        await eventually(fired, timeout=240, interval=0.5)
        for name in names:
            assert "<" not in descriptions[name], name  # Prometheus's mark for a template that failed
            assert "%!" not in descriptions[name], name

    async def until_found(self, query: str) -> None:
        """Return when a query finds something."""

        async def found() -> bool:
            return bool(await asyncio.to_thread(self.prometheus.query, query))

        await eventually(found, timeout=240, interval=0.5)

    async def until_all_serve(self) -> None:
        """Return when Prometheus sees each process ready."""
        await self.until_found(
            f"sum(token_service_workers) == {sum(WORKERS) + 1} and min(token_service_ready) == 1"
        )


@asynccontextmanager
async def world(directory: Path) -> AsyncIterator[World]:
    """Start everything and the load, and wait until Prometheus sees each process."""
    policies = directory / "policies.toml"
    authority = Authority()  # its certificates last for an hour
    server = authority.server()
    for name, content in (("cert.pem", server.certificate), ("key.pem", server.key)):
        (directory / name).write_bytes(content)
        (directory / name).chmod(0o600)
    metrics = free_port()
    async with AsyncExitStack() as stack:
        stack.callback(release_port, metrics)
        transmitter = stack.enter_context(Transmitter())
        (directory / "poll").write_text(transmitter.bearer)
        policy_text = _POLICIES.format(transmitter=transmitter, audience=AUDIENCE, directory=directory)
        policies.write_text(policy_text)
        postgres = stack.enter_context(PostgresServer(fsync=False))
        redis = stack.enter_context(RedisServer())
        url = postgres.create_database()
        common = {
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_KEY_ROTATION_PERIOD": "20s",
            "TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "1s",
            "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "1s",
            "TOKEN_SERVICE_JANITOR_INTERVAL": "1s",
            "TOKEN_SERVICE_DATABASE_POOL_SIZE": "2",
        }
        shared = {
            **common,
            "TOKEN_SERVICE_DATABASE_URL": url,
            "TOKEN_SERVICE_REDIS_URL": redis.url,
            "TOKEN_SERVICE_POLICY_FILE": str(policies),
            "TOKEN_SERVICE_KEY_ENCRYPTION_KEY": key_encryption_key(),
            "TOKEN_SERVICE_AUDIT_KEY": key_encryption_key(),
        }
        secured = {
            **common,
            "TOKEN_SERVICE_TLS_CERT_FILE": str(directory / "cert.pem"),
            "TOKEN_SERVICE_TLS_KEY_FILE": str(directory / "key.pem"),
            "TOKEN_SERVICE_HTTP_TLS": "true",
            "TOKEN_SERVICE_METRICS_ADDRESS": f"127.0.0.1:{metrics}",
        }
        first, second = (Node("--workers", str(count), env=shared) for count in WORKERS)
        tls = Node(env=secured)
        for node in (first, second, tls):
            stack.callback(node.close)
            node.start(wait=False)
        for node in (first, second, tls):
            await asyncio.to_thread(node.wait_ready)
        targets = (first.http_address, second.http_address, f"127.0.0.1:{metrics}")
        write(directory, Site(pace=PACE, janitor_interval=1, targets=targets))
        prometheus = stack.enter_context(Prometheus(directory / "prometheus"))
        made = World((first, second), tls, postgres, url, redis, policies, policy_text, prometheus)
        await made.until_all_serve()
        api = await stack.enter_async_context(Api(first.grpc_address))
        await stack.enter_async_context(load(api, first, tls, transmitter))
        yield made


@asynccontextmanager
async def load(api: Api, node: Node, tls: Node, transmitter: Transmitter) -> AsyncIterator[None]:
    """Run callers, a provider that tells security events, and attackers while nodes fail."""
    header, payload, signature = (await api.issue()).access_token.split(".")
    forged = f"{header}.{payload}.{'B' if signature[0] == 'A' else 'A'}{signature[1:]}"
    shop = api.stream(subscriber_id="shop")
    await shop.read()
    async with repeating(
        lambda number: use(api, node.http_url, f"user {number}"),
        lambda number: confirmed(api, f"gone {number}"),
        lambda _: api.issue("greedy", client_id="web"),
        lambda _: api.validate(forged),
        lambda _: knock(tls),
        lambda _: asyncio.to_thread(
            transmitter.push, f"{node.http_url}/ssf/events/corporate", transmitter.token()
        ),
    ):
        yield


@asynccontextmanager
async def repeating(*steps: Callable[[int], Awaitable[Any]]) -> AsyncIterator[None]:
    """Repeat steps, each with the number of its repetition."""
    tasks = [asyncio.create_task(_repeat(step)) for step in steps]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def _repeat(step: Callable[[int], Awaitable[Any]]) -> None:
    number = 0
    while True:
        # Failures of the service are what the alerts are about.
        with contextlib.suppress(grpc.aio.AioRpcError, httpx.HTTPError, OSError):
            await step(number)
        number += 1
        await asyncio.sleep(_PAUSE)


async def use(api: Api, http_url: str, subject: str) -> None:
    """Do everything once that a panel shows."""
    issued = await api.issue(subject, client_id="web", audience=["api"])
    await api.validate(issued.access_token)
    request = RefreshTokenRequest(refresh_token=issued.refresh_token, client_id="web")
    refreshed = await api.tokens.RefreshToken(request, timeout=30)
    again = RefreshTokenRequest(refresh_token=refreshed.refresh_token, client_id="web")
    await api.tokens.RefreshToken(again, timeout=30)
    with contextlib.suppress(grpc.aio.AioRpcError):
        await api.tokens.RefreshToken(request, timeout=30)  # superseded twice: reuse
    async with httpx.AsyncClient(timeout=60) as client:
        for path in ("/.well-known/jwks.json", "/nothing"):
            await client.get(f"{http_url}{path}")
        await client.post(f"{http_url}/token", data={"grant_type": "client_credentials"})


async def confirmed(api: Api, subject: str) -> None:
    """Revoke with a wait for all subscribers, of which one confirms."""
    request = RevokeTokenRequest(subject=subject, wait=RevokeTokenRequest.Wait(applied_by_all=True))
    request.wait.timeout.FromMilliseconds(2000)
    waiting = asyncio.ensure_future(api.tokens.RevokeToken(request, timeout=30))
    unheard = await api.revoke(subject=f"{subject} as well")
    confirmation = ConfirmRevocationsRequest(subscriber_id="shop", applied_cursor=unheard.cursor, validated=7)
    confirmation.refusals.add(reason="EXPIRED", count=2)
    await api.tokens.ConfirmRevocations(confirmation, timeout=30)
    response = await waiting
    await api.confirm("shop", response.cursor)


async def knock(node: Node) -> None:
    """Speak plain HTTP where TLS is expected."""
    host, _, port = node.http_address.rpartition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET / HTTP/1.1\r\n\r\n")
    await writer.drain()
    writer.close()
