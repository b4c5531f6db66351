"""Event streams of real nodes: receivers in other processes verify every event, and killed nodes lose none."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt

from tests.integration.calls import TIMEOUT, Api
from tests.integration.nodes import Node, nodes
from tests.support import event_receiver_process
from tests.support.deadline import eventually
from token_service.core.event_streams.event_types import SESSION_REVOKED
from token_service.v1 import (
    client_service_pb2 as pb,
    client_service_pb2_grpc,
    key_service_pb2 as keys,
)

ISSUER = "https://tokens.example.org"


@dataclass
class Receiver:
    """A client `hub` that follows the events of all clients."""

    http: list[httpx.AsyncClient]
    """One for each node."""
    secret: str

    async def call(self, method: str, path: str, body: Any = None, *, node: int = 0) -> httpx.Response:
        """Call a node with a new access token."""
        http = self.http[node]
        form = {"grant_type": "client_credentials", "scope": "ssf.manage", "resource": ISSUER}
        answer = await http.post("/token", data=form, auth=("hub", self.secret))
        assert answer.status_code == 200, answer.text
        headers = {"Authorization": f"Bearer {answer.json()['access_token']}"}
        return await http.request(method, path, json=body, headers=headers)

    async def create(self, delivery: dict[str, Any]) -> dict[str, Any]:
        body = {"delivery": delivery, "events_requested": [SESSION_REVOKED]}
        answer = await self.call("POST", "/ssf/streams", body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def poll(self, stream: dict[str, Any], *ack: str, node: int = 0, **members: Any) -> dict[str, Any]:
        """Return the verified claims of a poll by `jti`."""
        path = f"/ssf/poll/{stream['stream_id']}"
        answer = await self.call("POST", path, {"ack": ack, **members}, node=node)
        assert answer.status_code == 200, answer.text
        key_set = jwt.PyJWKSet.from_dict((await self.http[node].get("/.well-known/jwks.json")).json())
        return {
            jti: jwt.decode(
                token,
                key_set[jwt.get_unverified_header(token)["kid"]].key,
                algorithms=["ES256"],
                audience="hub",
                issuer=ISSUER,
            )
            for jti, token in answer.json()["sets"].items()
        }


@dataclass
class Site:
    nodes: list[Node]
    apis: list[Api]
    receiver: Receiver
    database: Path

    async def kill_leader(self) -> int:
        """Kill the node that serves the streams, whose process the lease names; return the other one."""
        with closing(sqlite3.connect(self.database)) as connection:
            ((holder,),) = connection.execute("SELECT holder FROM leases WHERE name = 'ssf'")
        (leader,) = (number for number, node in enumerate(self.nodes) if f":{node.pid}:" in holder)
        await asyncio.to_thread(self.nodes[leader].kill)
        return 1 - leader

    async def ended_session(self, node: int = 0) -> str:
        """Open a session and revoke it; return its id."""
        issued = await self.apis[node].issue(audience=["api"])
        await self.apis[node].revoke(session_id=issued.session_id)
        return str(issued.session_id)


@asynccontextmanager
async def running(directory: Path) -> AsyncIterator[Site]:
    database = directory / "token_service.db"
    env = {
        "TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{database}",
        "TOKEN_SERVICE_ISSUER": ISSUER,
        "TOKEN_SERVICE_ALLOW_PRIVATE_EVENT_RECEIVERS": "true",
    }
    with nodes(2, env) as found:
        async with AsyncExitStack() as stack:
            apis = [await stack.enter_async_context(Api(node.grpc_address)) for node in found]
            http = [
                await stack.enter_async_context(
                    httpx.AsyncClient(base_url=node.http_url, trust_env=False, timeout=TIMEOUT)
                )
                for node in found
            ]
            stub = client_service_pb2_grpc.ClientServiceStub(apis[0].channel)
            created = await stub.CreateClient(
                pb.CreateClientRequest(
                    client=pb.Client(
                        client_id="hub",
                        token_endpoint_auth_method=pb.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
                        grant_types=["client_credentials"],
                        scopes=["ssf.manage"],
                        rights=[pb.Right(permission="receive_events", unbounded=True)],
                    )
                ),
                timeout=TIMEOUT,
            )
            receiver = Receiver(http, created.client_secret)

            async def is_known() -> bool:
                form = {"grant_type": "client_credentials", "scope": "ssf.manage"}
                answers = [
                    await each.post("/token", data=form, auth=("hub", receiver.secret)) for each in http
                ]
                return all(each.status_code == 200 for each in answers)

            await eventually(is_known)
            yield Site(found, apis, receiver, database)


@contextmanager
def pushed_to(directory: Path, key_urls: list[str]) -> Iterator[str]:
    """Run a receiver in a process of its own; yield its URL."""
    directory.mkdir()
    script = Path(event_receiver_process.__file__)
    process = subprocess.Popen([sys.executable, str(script), str(directory), *key_urls])
    try:
        yield str(directory)
    finally:
        process.kill()
        process.wait()


def received(directory: Path) -> list[dict[str, Any]]:
    file = directory / "received"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def sessions_of(claims: list[dict[str, Any]]) -> list[str]:
    return [each["sub_id"]["session"]["id"] for each in claims]


async def test_killed_node_repeats_an_event_with_its_jti_and_loses_none(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        directory = tmp_path / "receiver"
        with pushed_to(directory, [f"{node.http_url}/.well-known/jwks.json" for node in site.nodes]):
            await eventually((directory / "port").exists)
            url = f"http://127.0.0.1:{(directory / 'port').read_text()}/events"
            await site.receiver.create(
                {
                    "method": "urn:ietf:rfc:8935",
                    "endpoint_url": url,
                    "authorization_header": "Bearer of the receiver",
                }
            )
            ended = [await site.ended_session(number % 2) for number in range(3)]
            await eventually(lambda: len(received(directory)) == 3)
            (directory / "hold").touch()
            ended.append(await site.ended_session())
            await eventually(lambda: len(received(directory)) == 4)
            # The receiver has the event, and the node that sent it does not know.
            other = await site.kill_leader()
            (directory / "hold").unlink()
            ended += [await site.ended_session(other) for _ in range(2)]
            await eventually(lambda: len(received(directory)) == 7)
        found = received(directory)
        assert all("error" not in each for each in found), found
        assert sessions_of(found) == [*ended[:4], ended[3], *ended[4:]]
        assert found[3]["jti"] == found[4]["jti"]
        assert len({each["jti"] for each in found}) == 6


async def test_polled_events_survive_a_key_rotation_a_kill_and_a_pause(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        receiver = site.receiver
        stream = await receiver.create({"method": "urn:ietf:rfc:8936"})
        assert stream["delivery"]["endpoint_url"] == f"{ISSUER}/ssf/poll/{stream['stream_id']}"
        ended = [await site.ended_session(1)]
        first = await receiver.poll(stream, node=1)
        assert sessions_of(list(first.values())) == ended

        prepared = await site.apis[0].keys.PrepareSigningKey(
            keys.PrepareSigningKeyRequest(algorithm="ES256"), timeout=TIMEOUT
        )
        await site.apis[0].keys.ActivateSigningKey(
            keys.ActivateSigningKeyRequest(key_id=prepared.signing_key.key_id, force=True), timeout=TIMEOUT
        )
        again = await receiver.poll(stream)
        assert list(again) == list(first)

        key_ids = {
            each["kid"] for each in (await receiver.http[0].get("/.well-known/jwks.json")).json()["keys"]
        }
        assert prepared.signing_key.key_id in key_ids
        body = {"stream_id": stream["stream_id"]}
        await receiver.call("POST", "/ssf/status", {**body, "status": "paused"})
        other = await site.kill_leader()
        ended += [await site.ended_session(other) for _ in range(3)]
        assert await receiver.poll(stream, node=other, returnImmediately=True) == {}
        await receiver.call("POST", "/ssf/status", {**body, "status": "enabled"}, node=other)

        taken: dict[str, Any] = {}

        async def has_all() -> bool:
            taken.update(await receiver.poll(stream, *taken, node=other))
            return len(taken) == 4

        await eventually(has_all)
        assert next(iter(taken)) == next(iter(first))
        assert sessions_of(list(taken.values())) == ended
        assert await receiver.poll(stream, *taken, node=other, returnImmediately=True) == {}


async def test_event_ends_the_session_at_another_service_of_this_kind(tmp_path: Path) -> None:
    async with running(tmp_path) as site:
        header = "received-" + "s" * 24
        (tmp_path / "push").write_text(header)
        policy = tmp_path / "policy.toml"
        policy.write_text(
            f"""
[security_event_transmitters.tokens]
issuer = "{ISSUER}"
keys = "{site.nodes[0].http_url}/.well-known/jwks.json"
audience = "hub"
algorithms = ["ES256"]
private = true

[security_event_transmitters.tokens.push]
token_file = "{tmp_path}/push"
"""
        )
        env = {
            "TOKEN_SERVICE_ISSUER": "http://partner.localhost",
            "TOKEN_SERVICE_POLICY_FILE": str(policy),
            "TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{tmp_path / 'partner.db'}",
        }
        with nodes(1, env) as (partner,):
            async with Api(partner.grpc_address) as api:
                ended, other = await api.issue("tokens:alice"), await api.issue("tokens:bob")
                await site.receiver.create(
                    {
                        "method": "urn:ietf:rfc:8935",
                        "endpoint_url": f"{partner.http_url}/ssf/events/tokens",
                        "authorization_header": f"Bearer {header}",
                    }
                )
                await site.ended_session()

                async def has_ended() -> bool:
                    return bool(await api.why(ended.access_token))

                await eventually(has_ended)
                assert not await api.why(other.access_token)
