"""The management of event streams over HTTP (SSF 1.0, section 8.1)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.core.node import ISSUER
from tests.unit.web.ssf.receiver import CAEP, POLL, PUSH, RISC, URL, Scene, members_of, names
from token_service.core.access.caller import Caller
from token_service.core.event_streams.stream import MAX_STREAMS

SUPPORTED = [
    f"{CAEP}session-revoked",
    f"{CAEP}token-claims-change",
    f"{CAEP}credential-change",
    f"{RISC}sessions-revoked",
    f"{RISC}credential-compromise",
    f"{RISC}account-purged",
]


async def test_transmitter_configuration_names_every_endpoint(scene: Scene) -> None:
    answer = await scene.app.http.get("/.well-known/ssf-configuration")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "application/json")
    assert answer.json() == {
        "spec_version": "1_0",
        "issuer": ISSUER,
        "jwks_uri": f"{ISSUER}/.well-known/jwks.json",
        "delivery_methods_supported": [PUSH, POLL],
        "configuration_endpoint": f"{ISSUER}/ssf/streams",
        "status_endpoint": f"{ISSUER}/ssf/status",
        "add_subject_endpoint": f"{ISSUER}/ssf/subjects:add",
        "remove_subject_endpoint": f"{ISSUER}/ssf/subjects:remove",
        "verification_endpoint": f"{ISSUER}/ssf/verify",
        "critical_subject_members": ["user", "session", "application", "tenant"],
        "default_subjects": "ALL",
        "authorization_schemes": [{"spec_urn": "urn:ietf:rfc:6749"}],
    }


async def test_path_of_the_issuer_follows_the_well_known_part() -> None:
    scene = await Scene.start(issuer="https://issuer.example/tenant")
    answer = await scene.app.http.get("/.well-known/ssf-configuration/tenant")
    assert answer.json()["configuration_endpoint"] == "https://issuer.example/tenant/ssf/streams"
    await scene.app.close()


async def test_stream_is_created_read_updated_replaced_and_deleted(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    created = await receiver.create(f"{CAEP}session-revoked", "urn:unknown", description="Hub")
    stream_id = created["stream_id"]
    expected = {
        "stream_id": stream_id,
        "iss": ISSUER,
        "aud": "hub",
        "delivery": {"method": POLL, "endpoint_url": f"{ISSUER}/ssf/poll/{stream_id}"},
        "events_supported": SUPPORTED,
        "events_requested": [f"{CAEP}session-revoked", "urn:unknown"],
        "events_delivered": [f"{CAEP}session-revoked"],
        "min_verification_interval": 60,
        "description": "Hub",
    }
    assert created == expected
    answer = await receiver.call("GET", f"/ssf/streams?stream_id={stream_id}")
    assert (answer.status_code, answer.json(), answer.headers["cache-control"]) == (200, expected, "no-store")
    assert (await receiver.call("GET", "/ssf/streams")).json() == [expected]

    delivery = {"method": PUSH, "endpoint_url": URL, "authorization_header": "Bearer s3cret"}
    answer = await receiver.call("PATCH", "/ssf/streams", {"stream_id": stream_id, "delivery": delivery})
    expected["delivery"] = {"method": PUSH, "endpoint_url": URL}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert "s3cret" not in answer.text

    answer = await receiver.call(
        "PUT",
        "/ssf/streams",
        {**expected, "events_requested": [f"{RISC}sessions-revoked"], "aud": ["hub"]}
        | {"events_delivered": [f"{CAEP}session-revoked"], "description": None},
    )
    expected["events_requested"] = expected["events_delivered"] = [f"{RISC}sessions-revoked"]
    del expected["description"]
    assert (answer.status_code, answer.json()) == (200, expected)

    answer = await receiver.call("DELETE", f"/ssf/streams?stream_id={stream_id}")
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await receiver.call("GET", "/ssf/streams")).json() == []
    assert [
        (event, fields["event_stream_id"]) for event, fields in scene.node.audit.events if "stream" in event
    ] == [
        ("event_stream.created", stream_id),
        ("event_stream.updated", stream_id),
        ("event_stream.updated", stream_id),
        ("event_stream.deleted", stream_id),
    ]


async def test_header_of_pushes_stays_with_its_url_only(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    delivery = {"method": PUSH, "endpoint_url": URL, "authorization_header": "Bearer s3cret"}
    stream_id = (await receiver.create(method=PUSH))["stream_id"]

    async def header_after(delivery: dict[str, Any]) -> str | None:
        body = {"stream_id": stream_id, "delivery": delivery}
        answer = await receiver.call("PATCH", "/ssf/streams", body)
        assert answer.status_code == 200, answer.text
        scene.core.ports.stores.event_streams._verified.clear()  # type: ignore[attr-defined]
        await receiver.call("POST", "/ssf/verify", {"stream_id": stream_id})
        await scene.transmit()
        return scene.pushed.requests[-1][1]

    assert await header_after(delivery) == "Bearer s3cret"
    assert await header_after({"method": PUSH, "endpoint_url": URL}) == "Bearer s3cret"
    assert await header_after({"method": PUSH, "endpoint_url": f"{URL}/other"}) is None
    assert await header_after(delivery) == "Bearer s3cret"
    assert await header_after({**delivery, "authorization_header": None}) is None


async def test_poll_is_the_default_delivery(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    answer = await receiver.call("POST", "/ssf/streams", {})
    assert answer.status_code == 201
    assert answer.json()["delivery"]["method"] == POLL
    assert answer.json()["events_delivered"] == []


async def test_receiver_reaches_only_its_own_streams(scene: Scene) -> None:
    owner, other = await scene.receiver("hub"), await scene.receiver("spy", "*")
    stream = await owner.create()
    stream_id = stream["stream_id"]
    assert (await other.call("GET", "/ssf/streams")).json() == []
    body = {"stream_id": stream_id}
    subject = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
    for method, path, content in (
        ("GET", f"/ssf/streams?stream_id={stream_id}", None),
        ("PATCH", "/ssf/streams", body),
        ("PUT", "/ssf/streams", body),
        ("DELETE", f"/ssf/streams?stream_id={stream_id}", None),
        ("GET", f"/ssf/status?stream_id={stream_id}", None),
        ("POST", "/ssf/status", {**body, "status": "paused"}),
        ("POST", "/ssf/subjects:add", {**body, "subject": subject}),
        ("POST", "/ssf/subjects:remove", {**body, "subject": subject}),
        ("POST", "/ssf/verify", body),
        ("POST", f"/ssf/poll/{stream_id}", {}),
    ):
        answer = await other.call(method, path, content)
        assert (answer.status_code, answer.json()["reason"]) == (404, "EVENT_STREAM_NOT_FOUND"), path
    assert (await owner.call("GET", "/ssf/streams")).json() == [stream]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/ssf/streams"),
        ("PATCH", "/ssf/streams"),
        ("PUT", "/ssf/streams"),
        ("DELETE", "/ssf/streams?stream_id=x"),
        ("POST", "/ssf/status"),
        ("POST", "/ssf/subjects:add"),
        ("POST", "/ssf/subjects:remove"),
        ("POST", "/ssf/verify"),
    ],
)
async def test_changes_need_the_scope_ssf_manage(scene: Scene, method: str, path: str) -> None:
    receiver = await scene.receiver("hub", scope="ssf.read")
    body = {"stream_id": "x", "status": "paused", "subject": {"format": "opaque", "id": "x"}}
    answer = await receiver.call(method, path, None if method == "DELETE" else body)
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    assert 'error="insufficient_scope", scope="ssf.manage"' in answer.headers["www-authenticate"]


async def test_reads_need_one_of_the_scopes(scene: Scene) -> None:
    receiver = await scene.receiver("hub", scope="read")
    for method, path, body in (
        ("GET", "/ssf/streams", None),
        ("GET", "/ssf/status?stream_id=x", None),
        ("POST", "/ssf/poll/x", {}),
    ):
        answer = await receiver.call(method, path, body)
        assert (answer.status_code, answer.json()["reason"]) == (403, "PERMISSION_DENIED")
    receiver.access_token = await scene.token("hub", "ssf.read")
    assert (await receiver.call("GET", "/ssf/streams")).json() == []


async def test_only_an_access_token_of_a_client_for_this_service_counts(scene: Scene) -> None:
    await scene.receiver("hub")
    http = scene.app.http
    for headers in ({}, scene.app.basic("hub"), {"Authorization": "Bearer nonsense"}):
        answer = await http.get("/ssf/streams", headers=headers)
        assert (answer.status_code, answer.json()["reason"]) == (401, "CALLER_UNAUTHENTICATED")
        assert answer.headers["www-authenticate"].startswith("Bearer ")
    issued = await scene.node.issue("alice", "hub", audience=(ISSUER,), scopes=("ssf.manage",))
    answer = await http.get("/ssf/streams", headers={"Authorization": f"Bearer {issued.access_token}"})
    assert answer.status_code == 401


async def test_client_has_a_bounded_number_of_streams(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    for _ in range(MAX_STREAMS):
        await receiver.create()
    answer = await receiver.call("POST", "/ssf/streams", {})
    assert (answer.status_code, answer.json()["reason"]) == (409, "TOO_MANY_EVENT_STREAMS")


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"delivery": {"method": "urn:other"}}, "delivery.method"),
        ({"delivery": []}, "delivery"),
        ({"delivery": {"method": PUSH}}, "delivery.endpoint_url"),
        ({"delivery": {"method": PUSH, "endpoint_url": "http://receiver.example"}}, "scheme is not https"),
        ({"delivery": {"method": PUSH, "endpoint_url": URL, "authorization_header": "a\r\nb"}}, "printable"),
        ({"delivery": {"method": POLL, "authorization_header": "x"}}, "authorization_header"),
        ({"delivery": {"method": POLL, "endpoint_url": URL}}, "supplied by this service"),
        ({"events_requested": "all"}, "events_requested"),
        ({"events_requested": ["x" * 300]}, "events_requested"),
        ({"events_requested": [str(number) for number in range(65)]}, "events_requested"),
        ({"description": "x" * 257}, "description"),
        ({"description": 7}, "description"),
        ({"aud": "other"}, "aud"),
        ({"iss": "https://other.example"}, "iss"),
        ({"events_delivered": []}, "events_delivered"),
        ({"stream_id": None}, "stream_id"),
    ],
)
async def test_wrong_configuration_changes_nothing(scene: Scene, change: dict[str, Any], field: str) -> None:
    receiver = await scene.receiver("hub")
    stream = await receiver.create()
    for method in ("PATCH", "PUT"):
        answer = await receiver.call(method, "/ssf/streams", {"stream_id": stream["stream_id"], **change})
        assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_REQUEST"), method
        assert field in answer.json()["error_description"]
    assert (await receiver.call("GET", "/ssf/streams")).json() == [stream]


async def test_status_is_read_and_changed_with_a_reason(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    stream_id = (await receiver.create())["stream_id"]
    answer = await receiver.call("GET", f"/ssf/status?stream_id={stream_id}")
    assert answer.json() == {"stream_id": stream_id, "status": "enabled"}
    change = {"stream_id": stream_id, "status": "paused", "reason": "maintenance"}
    answer = await receiver.call("POST", "/ssf/status", change)
    assert (answer.status_code, answer.json()) == (200, change)
    assert (await receiver.call("GET", f"/ssf/status?stream_id={stream_id}")).json() == change
    for wrong in ({"status": "asleep"}, {"reason": "x" * 257}, {"stream_id": 7}, {"status": None}):
        answer = await receiver.call("POST", "/ssf/status", {**change, **wrong})
        assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_REQUEST")
    assert (await receiver.call("GET", "/ssf/status")).status_code == 400


async def test_verification_event_echoes_the_state_once_a_minute(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    stream = await receiver.create()
    body = {"stream_id": stream["stream_id"], "state": "VGhpcw=="}
    assert (await receiver.call("POST", "/ssf/verify", body)).status_code == 204
    refused = await receiver.call("POST", "/ssf/verify", body)
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    (claims,) = await receiver.drain(stream)
    assert claims["sub_id"] == {"format": "opaque", "id": stream["stream_id"]}
    assert names([claims]) == ["verification"]
    assert members_of(claims) == {"state": "VGhpcw=="}
    scene.app.clock.elapsed += 60
    assert (await receiver.call("POST", "/ssf/verify", {"stream_id": stream["stream_id"]})).status_code == 204
    (claims,) = await receiver.drain(stream)
    assert members_of(claims) == {}


async def test_disabled_stream_can_not_be_verified(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    stream = await receiver.create()
    body = {"stream_id": stream["stream_id"]}
    await receiver.call("POST", "/ssf/status", {**body, "status": "disabled"})
    assert (await receiver.call("POST", "/ssf/verify", body)).status_code == 400


@pytest.mark.parametrize(
    ("removed", "left"),
    [
        ({"format": "iss_sub", "iss": ISSUER, "sub": "alice"}, ["bob"]),
        ({"format": "complex", "user": {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}}, ["bob"]),
        ({"format": "iss_sub", "iss": ISSUER, "sub": "carol"}, ["alice", "bob"]),
        ("session of alice", ["bob"]),
        ("session of bob as alice", ["alice", "bob"]),
    ],
)
async def test_removed_subject_is_left_out_until_it_is_added(
    scene: Scene, removed: Any, left: list[str]
) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create(f"{CAEP}session-revoked")
    sessions = {name: await scene.session(name) for name in ("alice", "bob")}
    user = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}
    if removed == "session of alice":
        removed = {"format": "opaque", "id": sessions["alice"]}
    elif removed == "session of bob as alice":
        removed = {"format": "complex", "user": user, "session": {"format": "opaque", "id": sessions["bob"]}}
    body = {"stream_id": stream["stream_id"], "subject": removed}
    assert (await receiver.call("POST", "/ssf/subjects:remove", body)).status_code == 204
    for session_id in sessions.values():
        await scene.revoke(session_id)
    assert [each["sub_id"]["user"]["sub"] for each in await receiver.drain(stream)] == left
    assert (await receiver.call("POST", "/ssf/subjects:add", {**body, "verified": False})).status_code == 200
    again = await scene.session("alice")
    await scene.revoke(again)
    assert len(await receiver.drain(stream)) == 1


@pytest.mark.parametrize(
    "subject",
    [
        None,
        {},
        "alice",
        {"format": "email", "email": "alice@example.org"},
        {"format": "iss_sub", "iss": "https://other.example", "sub": "alice"},
        {"format": "iss_sub", "iss": ISSUER},
        {"format": "iss_sub", "iss": ISSUER, "sub": 7},
        {"format": "opaque", "id": ""},
        {"format": "complex"},
        {"format": "complex", "device": {"format": "opaque", "id": "x"}},
        {"format": "complex", "user": "alice"},
    ],
)
async def test_subject_that_no_event_can_have_is_refused(scene: Scene, subject: Any) -> None:
    receiver = await scene.receiver("hub")
    stream = await receiver.create()
    for path in ("/ssf/subjects:add", "/ssf/subjects:remove"):
        answer = await receiver.call("POST", path, {"stream_id": stream["stream_id"], "subject": subject})
        assert (answer.status_code, answer.json()["reason"]) == (400, "INVALID_REQUEST")


async def test_streams_of_a_deleted_client_are_deleted(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    stream = await receiver.create()
    await scene.core.client_administration.delete(Caller.system(), "hub", scene.app.clock.now())
    await scene.transmit()
    assert await scene.core.ports.stores.event_streams.get(stream["stream_id"]) is None
    (line,) = scene.node.audit.named("event_stream.deleted")
    assert (line["cause"], line["actor"]) == ("client_deleted", "system:event-streams")
