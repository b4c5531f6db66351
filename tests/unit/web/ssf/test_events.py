"""What receivers learn of the events of this service, and under which names."""

from __future__ import annotations

import asyncio
from typing import Any

import jwt
import pytest

from tests.support.deadline import eventually
from tests.unit.core.node import ISSUER, SYSTEM
from tests.unit.core.virtual_time import START
from tests.unit.web.ssf.receiver import CAEP, RISC, Scene, members_of, names
from token_service.core.access.caller import Caller
from token_service.core.administration.subjects.erasure import EraseCommand
from token_service.core.clients.client import AUTHORIZATION_CODE, CLIENT_CREDENTIALS, SubjectType
from token_service.core.event_streams import sets
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.errors import RefreshTokenReusedError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationReason, RevocationTarget
from token_service.tokens.secret import Secret

ALICE = {"format": "iss_sub", "iss": ISSUER, "sub": "alice"}


def session_of(session_id: str, user: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "format": "complex",
        "user": user or ALICE,
        "session": {"format": "opaque", "id": session_id},
    }


async def test_revoked_session_becomes_one_signed_event(scene: Scene) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create()
    session_id = await scene.session()
    scene.app.clock.elapsed += 7.9
    await scene.revoke(session_id, reason=RevocationReason.LOGOUT, comment="alice asked")
    scene.app.clock.elapsed += 60
    (claims,) = await receiver.drain(stream)
    assert set(claims) == {"iss", "aud", "iat", "jti", "txn", "sub_id", "events"}
    assert (claims["iss"], claims["aud"], claims["iat"]) == (ISSUER, "web", int(START + 67.9))
    assert claims["sub_id"] == session_of(session_id)
    assert claims["events"] == {
        f"{CAEP}session-revoked": {
            "event_timestamp": int(START + 7.9),
            "initiating_entity": "system",
            "reason_admin": {"en": "The user has logged out."},
        }
    }
    assert await receiver.drain(stream) == []


@pytest.mark.parametrize(
    ("reason", "types"),
    [
        (RevocationReason.ADMINISTRATIVE, ["session-revoked", "sessions-revoked"]),
        (RevocationReason.CREDENTIALS_CHANGED, ["session-revoked", "sessions-revoked", "credential-change"]),
        (RevocationReason.COMPROMISED, ["session-revoked", "sessions-revoked", "credential-compromise"]),
    ],
)
async def test_revoked_subject_is_told_in_every_requested_type(
    scene: Scene, reason: RevocationReason, types: list[str]
) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create()
    await scene.session()
    await scene.revoke("alice", RevocationTarget.SUBJECT, reason=reason)
    found = await receiver.drain(stream)
    assert names(found) == types
    assert {str(each["sub_id"]) for each in found} == {str(ALICE)}
    assert len({each["jti"] for each in found}) == len(types)
    assert len({each["txn"] for each in found}) == 1
    for claims in found:
        members = members_of(claims)
        assert members["event_timestamp"] == int(START)
        assert members["reason_admin"]["en"]
        if names([claims]) == ["credential-change"]:
            assert (members["credential_type"], members["change_type"]) == ("unspecified", "update")


async def test_reused_refresh_token_ends_the_session_and_compromises_the_credential(scene: Scene) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create()
    first = await scene.node.issue(audience=("api",))
    await scene.node.refresh(first.refresh_token)
    scene.app.clock.elapsed += 3600
    with pytest.raises(RefreshTokenReusedError):
        await scene.node.refresh(first.refresh_token)
    receiver.access_token = await scene.token("web", "ssf.manage")
    revoked, compromised = await receiver.drain(stream)
    assert names([revoked, compromised]) == ["session-revoked", "credential-compromise"]
    assert revoked["sub_id"] == compromised["sub_id"] == session_of(first.session_id)
    assert members_of(compromised) == {
        "event_timestamp": int(START + 3600),
        "initiating_entity": "system",
        "reason_admin": {"en": "A refresh token was used twice."},
        "credential_type": "refresh_token",
    }


async def test_changed_session_tells_its_new_scopes(scene: Scene) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create()
    issued = await scene.node.issue(audience=("api",), scopes=("read", "ssf.read"))
    await scene.core.session_updates.update(
        Caller.system(),
        UpdateSessionCommand(
            session_id=issued.session_id,
            client_id="web",
            fields=frozenset({"scopes", "custom_claims"}),
            scopes=("read",),
            custom_claims={"email": "alice@example.org"},
        ),
        scene.app.clock.now(),
    )
    (claims,) = await receiver.drain(stream)
    assert names([claims]) == ["token-claims-change"]
    assert claims["sub_id"] == session_of(issued.session_id)
    assert members_of(claims)["claims"] == {"scope": "read"}


async def test_rotated_secret_and_disabled_client_name_the_application(scene: Scene) -> None:
    receiver = await scene.receiver("hub", "web")
    stream = await receiver.create()
    await scene.app.register("web")
    administration, now = scene.core.client_administration, scene.app.clock.now()
    await administration.rotate_secret(Caller.operator("root@db"), "web", now)
    await administration.disable(Caller.operator("root@db"), "web", now)
    rotated, ended = await receiver.drain(stream)
    assert names([rotated, ended]) == ["credential-change", "session-revoked"]
    application = {"format": "complex", "application": {"format": "opaque", "id": "web"}}
    assert rotated["sub_id"] == ended["sub_id"] == application
    assert members_of(rotated) == {
        "event_timestamp": int(START),
        "initiating_entity": "admin",
        "reason_admin": {"en": "The client has a new secret."},
        "credential_type": "client_secret",
        "change_type": "update",
    }


async def test_revocation_of_everything_names_the_tenant(scene: Scene) -> None:
    receiver = await scene.receiver("hub")
    stream = await receiver.create()
    await scene.revoke("", RevocationTarget.EVERYTHING)
    scene.app.clock.elapsed += 1
    receiver.access_token = await scene.token("hub", "ssf.manage")
    (claims,) = await receiver.drain(stream)
    assert claims["sub_id"] == {"format": "complex", "tenant": {"format": "uri", "uri": ISSUER}}


async def test_subject_that_is_being_erased_is_told_as_purged(scene: Scene) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create()
    await scene.session()
    erasure = asyncio.create_task(
        scene.core.subject_erasure.erase(
            Caller.system(), EraseCommand(subject="alice"), scene.app.clock.now()
        )
    )
    await eventually(lambda: scene.node.audit.named("revoked"))
    found = await receiver.drain(stream)
    assert names(found) == ["session-revoked", "sessions-revoked", "account-purged"]
    assert {str(each["sub_id"]) for each in found} == {str(ALICE)}
    await erasure


@pytest.mark.parametrize(
    ("cause", "entity"),
    [("risk", "policy"), ("security_event", "system"), ("age", "policy"), ("administrator", "admin")],
)
async def test_revocation_by_a_rule_names_its_cause(scene: Scene, cause: str, entity: str) -> None:
    receiver = await scene.receiver("hub", "*")
    stream = await receiver.create(f"{CAEP}session-revoked")
    target = Target("session", "s", session_id="s", subject="alice", client_id="web")
    event = AuditEvent(action=Action.REVOKED, actor=SYSTEM, target=target, fields={"cause": cause})
    await scene.core.ports.stores.audit.append([event])
    (claims,) = await receiver.drain(stream)
    assert members_of(claims)["initiating_entity"] == entity


async def test_other_events_are_not_told(scene: Scene) -> None:
    receiver = await scene.receiver("hub", "*")
    stream = await receiver.create()
    issued = await scene.node.issue(audience=("api",))
    await scene.node.revoke(token=issued.access_token)
    key = await scene.core.key_manager.prepare(SYSTEM, Algorithm.ES256)
    assert key is not None
    assert await receiver.drain(stream) == []


async def test_receiver_learns_only_of_the_clients_that_its_rights_cover(scene: Scene) -> None:
    receivers = {
        "web": await scene.receiver("web"),
        "shop-hub": await scene.receiver("shop-hub", "shop-*"),
        "all": await scene.receiver("all", "*"),
    }
    streams = {name: await each.create(f"{CAEP}session-revoked") for name, each in receivers.items()}
    sessions = {client_id: await scene.session("alice", client_id) for client_id in ("web", "shop-1", "bank")}
    for session_id in sessions.values():
        await scene.revoke(session_id)
    told = {
        name: [each["sub_id"]["session"]["id"] for each in await receiver.drain(streams[name])]
        for name, receiver in receivers.items()
    }
    assert told == {
        "web": [sessions["web"]],
        "shop-hub": [sessions["shop-1"]],
        "all": list(sessions.values()),
    }


async def test_revoked_subject_is_told_only_to_receivers_that_know_it(scene: Scene) -> None:
    receivers = [await scene.receiver("web"), await scene.receiver("bank"), await scene.receiver("all", "*")]
    streams = [await each.create(f"{RISC}sessions-revoked") for each in receivers]
    await scene.session("alice", "web")
    await scene.revoke("alice", RevocationTarget.SUBJECT)
    await scene.revoke("stranger", RevocationTarget.SUBJECT)
    told = [
        [each["sub_id"]["sub"] for each in await receiver.drain(stream)]
        for receiver, stream in zip(receivers, streams, strict=True)
    ]
    assert told == [["alice"], [], ["alice", "stranger"]]


async def test_sessions_elsewhere_do_not_hide_a_subject_from_its_receiver(
    scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sets, "_MAX_SESSIONS", 2)
    receiver = await scene.receiver("web")
    stream = await receiver.create(f"{RISC}sessions-revoked")
    await scene.session("alice", "web")
    for _ in range(2):
        await scene.session("alice", "bank")
    await scene.revoke("alice", RevocationTarget.SUBJECT)
    assert [each["sub_id"] for each in await receiver.drain(stream)] == [ALICE]


def pairwise_at(uri: str) -> dict[str, Any]:
    return {
        "subject_type": SubjectType.PAIRWISE,
        "redirect_uris": (uri,),
        "grant_types": (AUTHORIZATION_CODE, CLIENT_CREDENTIALS),
    }


async def test_receivers_can_not_compare_their_events() -> None:
    scene = await Scene.start(pairwise_key=Secret(b"p" * 32), sectors=object())
    one = await scene.receiver("one", "*", **pairwise_at("https://one.example/cb"))
    other = await scene.receiver("other", "*", **pairwise_at("https://other.example/cb"))
    streams = [await one.create(f"{CAEP}session-revoked"), await other.create(f"{CAEP}session-revoked")]
    await scene.revoke(await scene.session("alice", "web"))
    (first,), (second,) = await one.drain(streams[0]), await other.drain(streams[1])
    subjects = {each["sub_id"]["user"]["sub"] for each in (first, second)}
    assert subjects == {scene.core.subjects.sub(each, "alice") for each in ("one", "other")}
    assert len(subjects | {"alice"}) == 3
    assert first["jti"] != second["jti"]
    assert first["txn"] != second["txn"]
    await scene.app.close()


async def test_right_that_is_taken_away_ends_what_a_receiver_learns(scene: Scene) -> None:
    receiver = await scene.receiver("hub", "web")
    stream = await receiver.create()
    await scene.revoke(await scene.session())
    assert len(await receiver.drain(stream)) == 1
    client = scene.core.clients.get("hub")
    assert client is not None
    await scene.core.client_administration.update(
        Caller.system(), "hub", {"rights": ()}, scene.app.clock.now()
    )
    await scene.revoke(await scene.session())
    assert await receiver.drain(stream) == []


async def test_events_are_signed_with_the_key_that_is_active_when_they_are_sent(scene: Scene) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create()
    await scene.revoke(await scene.session())
    await scene.transmit()
    (before,) = await receiver.poll(stream)
    old = scene.core.keyring.signer().key_id
    key = await scene.core.key_manager.prepare(SYSTEM, Algorithm.ES256)
    await scene.core.key_manager.activate(SYSTEM, key.key_id, force=True)
    answer = await receiver.call("POST", stream["delivery"]["endpoint_url"], {"returnImmediately": True})
    ((jti, token),) = answer.json()["sets"].items()
    assert jwt.get_unverified_header(token)["kid"] == key.key_id != old
    assert scene.claims(token, "web") == before
    assert jti == before["jti"]


async def test_event_is_no_access_token_and_no_id_token(scene: Scene) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create()
    await scene.revoke(await scene.session())
    await scene.transmit()
    answer = await receiver.call("POST", stream["delivery"]["endpoint_url"], {"returnImmediately": True})
    (token,) = answer.json()["sets"].values()
    found = await scene.node.validate(token)
    assert (found.claims, found.reason.value if found.reason else None) == (None, "WRONG_TYPE")
    used = await scene.app.http.get("/ssf/streams", headers={"Authorization": f"Bearer {token}"})
    assert used.status_code == 401
    hinted = await scene.core.oauth.end_session._id_tokens.read(token)
    assert hinted is None


async def test_erasure_reaches_an_event_that_waits(scene: Scene) -> None:
    receiver = await scene.receiver("web")
    stream = await receiver.create(f"{RISC}sessions-revoked")
    await scene.session()
    await scene.revoke("alice", RevocationTarget.SUBJECT)
    await scene.transmit()
    await scene.core.ports.stores.audit.erase(SYSTEM, "alice")
    assert await receiver.poll(stream) == []
    assert await scene.core.ports.stores.event_streams.count_waiting(stream["stream_id"]) == 0
    assert scene.node.event_outcomes == ["dropped"]
