"""Hostile requests to every endpoint of event streams get a typed answer."""

from __future__ import annotations

import json
import random
from typing import Any

from tests.unit.core.node import ISSUER
from tests.unit.web.ssf.receiver import PUSH, URL, Receiver, Scene

SECRET = "fuzzsecret0123456789abcdef"
ODD: tuple[Any, ...] = (
    None, True, False, 0, -1, 2**80, 1.5, "", "x" * 5000, "\x00", "\ud7ff\u200b", SECRET, [], {}, [[]], {"a": {}},
    [None], ["x"] * 2000, {"format": "opaque", "id": "x"}, {"err": "x"}, {"x" * 300: {"err": SECRET}},
)  # fmt: skip
NAMES = (
    "stream_id", "status", "reason", "subject", "verified", "state", "delivery", "events_requested", "description",
    "aud", "iss", "maxEvents", "returnImmediately", "ack", "setErrs", "format", "method", "endpoint_url", "id", "iss",
)  # fmt: skip
STATUSES = {200, 201, 204, 400, 401, 404, 405, 409, 429}


def bodies(stream_id: str, polled: str) -> dict[str, list[dict[str, Any]]]:
    subject = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
    delivery = {"method": PUSH, "endpoint_url": URL, "authorization_header": SECRET}
    stream = {"stream_id": stream_id}
    return {
        "/ssf/streams": [{**stream, "delivery": delivery, "events_requested": ["a"], "description": "d"}],
        "/ssf/status": [{**stream, "status": "enabled", "reason": "r"}],
        "/ssf/subjects:add": [{**stream, "subject": subject, "verified": True}],
        "/ssf/subjects:remove": [{**stream, "subject": {"format": "complex", "user": subject}}],
        "/ssf/verify": [{**stream, "state": "s"}],
        f"/ssf/poll/{polled}": [
            {"maxEvents": 1, "returnImmediately": True, "ack": ["a"], "setErrs": {"b": {"err": "e"}}}
        ],
    }


def mutate(source: random.Random, value: Any) -> Any:
    """Change one part of a JSON value."""
    if isinstance(value, dict) and value and source.random() < 0.8:
        changed = dict(value)
        name = source.choice(sorted(changed))
        choice = source.random()
        if choice < 0.15:
            del changed[name]
        elif choice < 0.3:
            changed[source.choice(NAMES)] = source.choice(ODD)
        else:
            changed[name] = mutate(source, changed[name])
        return changed
    return source.choice(ODD)


async def send(source: random.Random, receiver: Receiver, path: str, body: dict[str, Any]) -> Any:
    method = source.choice(("POST", "POST", "POST", "PATCH", "PUT", "GET", "DELETE", "OPTIONS"))
    headers = {"Authorization": f"Bearer {receiver.access_token}", "Content-Type": "application/json"}
    for _ in range(source.randrange(3)):
        body = mutate(source, body)
    if "poll" in path and isinstance(body, dict):
        body["returnImmediately"] = body.get("returnImmediately") or True  # nothing here should wait
    content = json.dumps(body).encode("utf-8", "surrogatepass")
    choice = source.random()
    if choice < 0.05:
        content = content[: source.randrange(len(content) + 1)] + source.choice((b"", b"\xff", b"{", b"\x00"))
    elif choice < 0.08:
        headers["Content-Type"] = source.choice(("text/plain", "", "application/x-www-form-urlencoded"))
    elif choice < 0.11:
        headers["Authorization"] = source.choice(("", "Bearer", "Bearer x.y.z", "DPoP x", f"Basic {SECRET}"))
    elif choice < 0.13:
        content = b'{"a":' * 5000
    elif choice < 0.15:
        content = b"x" * 200_000
    query = {"stream_id": source.choice((SECRET, "", "x" * 500, "\u00e9"))} if source.random() < 0.3 else {}
    return await receiver.scene.app.http.request(method, path, content=content, headers=headers, params=query)


async def test_hostile_requests_get_typed_answers(scene: Scene) -> None:
    source = random.Random(20261130)
    receiver = await scene.receiver("hub", "*")
    polled = (await receiver.create())["stream_id"]
    stream_id = (await receiver.create())["stream_id"]
    requests = bodies(stream_id, polled)
    seen: dict[str, set[int]] = {}
    for turn in range(1500):
        if turn % 50 == 0:
            await scene.transmit()
        path = source.choice(sorted(requests))
        answer = await send(source, receiver, path, source.choice(requests[path]))
        assert answer.status_code in STATUSES, answer.text
        seen.setdefault(path.replace(polled, "ID"), set()).add(answer.status_code)
        assert SECRET not in answer.text or answer.status_code == 200, answer.text
        if answer.status_code in {400, 401, 404, 409, 429}:
            body = answer.json()
            assert body["error"]
            assert body["reason"]
            assert answer.headers["cache-control"] == "no-store"
    assert all({400, 401, 405} <= statuses for path, statuses in seen.items() if path != "/ssf/streams")
    assert {400, 401, 405} <= seen["/ssf/streams"]
    assert {path for path, statuses in seen.items() if statuses & {200, 201, 204}} == set(seen)
    assert scene.node.audit.named("event_stream.updated")
