"""Userinfo, logout and back-channel logout of real nodes, with the code of docs/logout.md as the application."""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import jwt
import pytest

from tests.integration.calls import Api
from tests.integration.nodes import Node, nodes
from tests.integration.tour import DOCS
from tests.support.deadline import eventually
from tests.support.form_receiver import FormReceiver
from token_service.tokens import base64url
from token_service.v1 import (
    authorization_service_pb2 as authorization,
    authorization_service_pb2_grpc,
    client_service_pb2 as pb,
    client_service_pb2_grpc,
)

TIMEOUT = 60
ISSUER = "https://tokens.example.org"
REDIRECT = "https://app.example.org/cb"
BACK = "https://app.example.org/bye"
VERIFIER = "v" * 43
(CODE,) = re.findall(r"^```python\n(.*?)^```$", (DOCS / "logout.md").read_text(), re.MULTILINE | re.DOTALL)


@dataclass
class Site:
    """Nodes on one database, and a connection to the first one."""

    nodes: list[Node]
    api: Api
    http: httpx.AsyncClient

    async def register(self, receiver: FormReceiver) -> str:
        """Register a public client that the receiver belongs to; return its id."""
        client = pb.Client(
            grant_types=["authorization_code", "refresh_token"],
            scopes=["openid", "email"],
            redirect_uris=[REDIRECT],
            post_logout_redirect_uris=[BACK],
            backchannel_logout_uri=receiver.url(),
        )
        stub = client_service_pb2_grpc.ClientServiceStub(self.api.channel)
        created = await stub.CreateClient(pb.CreateClientRequest(client=client), timeout=TIMEOUT)
        return created.client.client_id

    async def log_in(self, client_id: str, subject: str = "alice") -> dict[str, Any]:
        """Return the tokens of a code that a login service has made."""
        request = authorization.CreateAuthorizationGrantRequest(
            client_id=client_id,
            redirect_uri=REDIRECT,
            code_challenge=base64url.encode(hashlib.sha256(VERIFIER.encode()).digest()),
            subject=subject,
            scopes=["openid", "email"],
        )
        request.identity_claims.update({"email": f"{subject}@example.org", "name": subject})
        stub = authorization_service_pb2_grpc.AuthorizationServiceStub(self.api.channel)
        granted = await stub.CreateAuthorizationGrant(request, timeout=TIMEOUT)
        parameters = {
            "grant_type": "authorization_code",
            "client_id": client_id,
            "code": granted.code,
            "redirect_uri": REDIRECT,
            "code_verifier": VERIFIER,
        }
        answer = await self.http.post("/token", data=parameters)
        assert answer.status_code == 200, answer.text
        tokens: dict[str, Any] = answer.json()
        return tokens


@asynccontextmanager
async def running(count: int, directory: Path) -> AsyncIterator[Site]:
    env = {
        "TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{directory / 'token_service.db'}",
        "TOKEN_SERVICE_ISSUER": ISSUER,
        "TOKEN_SERVICE_ALLOW_PRIVATE_LOGOUT_URI": "true",
    }
    with nodes(count, env) as found:
        async with (
            Api(found[0].grpc_address) as api,
            httpx.AsyncClient(base_url=found[0].http_url, trust_env=False, timeout=TIMEOUT) as http,
        ):
            yield Site(found, api, http)


def sid_of(id_token: str) -> str:
    sid: str = jwt.decode(id_token, options={"verify_signature": False})["sid"]
    return sid


async def test_application_learns_of_its_users_and_of_their_logouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page: dict[str, Any] = {}
    exec(CODE, page)  # the code of the page
    async with running(2, tmp_path) as site, FormReceiver() as receiver, FormReceiver() as slow:
        slow.open.clear()
        document = (await site.http.get("/.well-known/openid-configuration")).json()
        assert (
            document["backchannel_logout_supported"]
            is document["backchannel_logout_session_supported"]
            is True
        )
        assert document["end_session_endpoint"] == f"{ISSUER}/end_session"
        key_set = (await site.http.get("/.well-known/jwks.json")).json()
        keys = jwt.PyJWKClient("https://unused.example")
        monkeypatch.setattr(keys, "fetch_data", lambda: key_set)

        app, other = await site.register(receiver), await site.register(slow)
        tokens = await site.log_in(app)
        bearer = {"Authorization": f"Bearer {tokens['access_token']}"}
        userinfo = await site.http.get("/userinfo", headers=bearer)
        assert userinfo.json() == {"sub": "alice", "email": "alice@example.org"}

        delayed = await site.log_in(other)
        for each in (delayed, tokens):
            parameters = {"id_token_hint": each["id_token"], "post_logout_redirect_uri": BACK, "state": "s"}
            answer = await site.http.get("/end_session", params=parameters)
            assert (answer.status_code, answer.headers["location"]) == (303, f"{BACK}?state=s")
        assert (await site.http.get("/userinfo", headers=bearer)).status_code == 401

        await eventually(lambda: receiver.received and slow.received)
        (received,) = receiver.received
        assert received.path == "/logout"
        ended = page["ended_session"](received.form["logout_token"], keys, ISSUER, app)
        assert ended == sid_of(tokens["id_token"])
        with pytest.raises(jwt.InvalidAudienceError):
            page["ended_session"](received.form["logout_token"], keys, ISSUER, other)
        # The node gives up the attempt that gets no answer, and makes another one.
        await eventually(lambda: len(slow.received) == 2)
        slow.open.set()
        assert page["ended_session"](slow.received[-1].form["logout_token"], keys, ISSUER, other) == sid_of(
            delayed["id_token"]
        )
        assert len(receiver.received) == 1


async def test_logout_is_delivered_after_kill_9_of_the_node_that_revoked(tmp_path: Path) -> None:
    async with running(1, tmp_path) as site, FormReceiver() as receiver:
        app = await site.register(receiver)
        sessions = [sid_of((await site.log_in(app, f"user-{number}"))["id_token"]) for number in range(5)]
        await receiver.kill()
        for session_id in sessions[:4]:
            await site.api.revoke(session_id=session_id)
        await site.api.revoke(subject="user-4")
        (node,) = site.nodes
        await asyncio.to_thread(node.kill)
        await receiver.listen()
        assert receiver.received == []
        await asyncio.to_thread(node.start)
        await eventually(lambda: len(receiver.received) >= len(sessions))
        told = {
            jwt.decode(each.form["logout_token"], options={"verify_signature": False})["sid"]
            for each in receiver.received
        }
        assert told == set(sessions)
