"""Receivers of event streams at the HTTP application of a node."""

from __future__ import annotations

from typing import Any

import httpx
import jwt

from tests.unit.core.node import ISSUER
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.app.ports import EventPushes
from token_service.core.event_streams.event_types import SUPPORTED
from token_service.core.event_streams.pushing import PushAnswer, PushFailedError
from token_service.core.policies.rights import Permission, Right
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret

PUSH, POLL = "urn:ietf:rfc:8935", "urn:ietf:rfc:8936"
URL = "https://receiver.example/events"
CAEP = "https://schemas.openid.net/secevent/caep/event-type/"
RISC = "https://schemas.openid.net/secevent/risc/event-type/"
SSF = "https://schemas.openid.net/secevent/ssf/event-type/"


class Pushed:
    """The pushes that receivers got. `answers` are the next answers; then 202. `faults`: defects by URL."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.requests: list[tuple[str, str | None]] = []
        self.answers: list[PushAnswer | PushFailedError] = []
        self.faults: dict[str, Exception] = {}

    async def send(self, url: str, token: str, authorization: Secret | None) -> PushAnswer:
        self.requests.append((url, None if authorization is None else authorization.reveal().decode()))
        if url in self.faults:
            raise self.faults[url]
        answer = self.answers.pop(0) if self.answers else PushAnswer(202, b"")
        if isinstance(answer, PushFailedError):
            raise answer
        self.tokens.append(token)
        return answer


def problem_of_url(url: str) -> str:
    return "" if url.startswith("https://") else "can't be used: the scheme is not https"


class Scene:
    """A node, and what receivers do. The transmitter runs only in `transmit`."""

    def __init__(self, app: OAuthApp, pushed: Pushed) -> None:
        self.app, self.node, self.pushed = app, app.node, pushed
        self.core = app.node.core

    @classmethod
    async def start(cls, **node: Any) -> Scene:
        pushed = Pushed()
        app = await OAuthApp.start(
            **{
                "algorithm": Algorithm.ES256,
                "event_pushes": EventPushes(pushed.send, problem_of_url),
                **node,
            }
        )
        return cls(app, pushed)

    async def receiver(
        self, client_id: str, *covered: str, scope: str = "ssf.manage", **metadata: Any
    ) -> Receiver:
        """Register a receiver that learns of the sessions of the clients `covered`; `*`: of all clients."""
        rights: tuple[Right, ...] = ()
        if covered:
            bounds: dict[str, Any] = {"unbounded": True} if covered == ("*",) else {"clients": covered}
            rights = (Right(permission=Permission.RECEIVE_EVENTS, **bounds),)
        await self.app.register(
            client_id, scopes=("ssf.manage", "ssf.read", "read"), rights=rights, **metadata
        )
        return Receiver(self, client_id, await self.token(client_id, scope))

    async def token(self, client_id: str, scope: str) -> str:
        answer = await self.app.token(client_id, scope=scope, resource=ISSUER)
        assert answer.status_code == 200, answer.text
        return str(answer.json()["access_token"])

    async def transmit(self) -> None:
        """Let the transmitter do all that is due."""
        for _ in range(3):
            await self.core.event_feed.step()
            await self.core.ssf.transmitter.step()
            await self.core.ssf.transmitter._pusher.stop()

    async def session(self, subject: str = "alice", client_id: str = "web") -> str:
        return (await self.node.issue(subject, client_id, audience=("api",))).session_id

    async def revoke(
        self, value: str, target: RevocationTarget = RevocationTarget.SESSION, **command: Any
    ) -> None:
        """Revoke a session or another target."""
        await self.node.revoke(target=target, value=value, **command)

    def claims(self, token: str, audience: str) -> dict[str, Any]:
        """Verify a token as a receiver does: by the published keys."""
        header = jwt.get_unverified_header(token)
        assert header["typ"] == "secevent+jwt"
        key = next(jwk for jwk in self.core.keyring.jwks if jwk["kid"] == header["kid"])
        return jwt.decode(
            token,
            jwt.PyJWK(key).key,
            algorithms=["ES256"],
            audience=audience,
            issuer=ISSUER,
            options={"verify_iat": False},
        )


class Receiver:
    """One receiver."""

    def __init__(self, scene: Scene, client_id: str, token: str) -> None:
        self.scene, self.client_id, self.access_token = scene, client_id, token

    async def call(self, method: str, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.access_token}"}
        return await self.scene.app.http.request(method, path, json=body, headers=headers, **options)

    async def create(self, *events: str, method: str = POLL, **members: Any) -> dict[str, Any]:
        """Create a stream with all events, or with some."""
        delivery = {"method": method, **({"endpoint_url": URL} if method == PUSH else {})}
        body = {"events_requested": list(events or SUPPORTED), "delivery": delivery, **members}
        answer = await self.call("POST", "/ssf/streams", body)
        assert answer.status_code == 201, answer.text
        return dict(answer.json())

    async def poll(self, stream: dict[str, Any], *ack: str, **members: Any) -> list[dict[str, Any]]:
        """Return the claims of the next events, in order."""
        body = {"returnImmediately": True, "ack": list(ack), **members}
        answer = await self.call("POST", stream["delivery"]["endpoint_url"], body)
        assert answer.status_code == 200, answer.text
        sets = answer.json()["sets"]
        claims = [self.scene.claims(token, self.client_id) for token in sets.values()]
        assert [each["jti"] for each in claims] == list(sets)
        return claims

    async def drain(self, stream: dict[str, Any]) -> list[dict[str, Any]]:
        """Transmit, then return and acknowledge the claims of all events."""
        await self.scene.transmit()
        claims = await self.poll(stream)
        await self.poll(stream, *(each["jti"] for each in claims), maxEvents=0)
        return claims

    def pushed(self) -> list[dict[str, Any]]:
        """Return the claims of the events that were pushed."""
        return [self.scene.claims(token, self.client_id) for token in self.scene.pushed.tokens]


def names(claims: list[dict[str, Any]]) -> list[str]:
    """Return the last parts of the event types."""
    return [next(iter(each["events"])).rpartition("/")[2] for each in claims]


def members_of(claims: dict[str, Any]) -> dict[str, Any]:
    """Return the members of the one event."""
    (members,) = claims["events"].values()
    return dict(members)
