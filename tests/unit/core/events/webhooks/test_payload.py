"""The body of requests: the audit event with the names of the JSON of the contract."""

from __future__ import annotations

import json
from typing import Any

from google.protobuf.json_format import ParseDict

from tests.support.memory_audit import MemoryAuditStore
from tests.unit.core.virtual_time import START, ManualClock
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Outcome, Target
from token_service.core.events.log import StoredEvent
from token_service.core.events.webhooks.payload import MAX_PAYLOAD, payload_of, payload_of_test
from token_service.rpc.convert.audit import audit_event
from token_service.v1 import audit_service_pb2 as pb


def stored(**values: Any) -> StoredEvent:
    audit = MemoryAuditStore(ManualClock())
    audit.add([AuditEvent(**{"action": Action.REVOKED, "actor": Actor.system("x"), **values})])
    ((place, row),) = audit.by_place.items()
    return StoredEvent(7, *place, row.action, row)


def test_data_is_the_audit_event_of_the_contract() -> None:
    event = stored(
        actor=Actor("caller", "web", "web", on_behalf_of="alice", proof="mtls"),
        target=Target("session", "s-1", "alice", "s-1", "web"),
        outcome=Outcome.DENIED,
        reason="LOGOUT",
        comment="by hand",
        origin=Origin("192.0.2.1", "curl/8"),
        fields={"cursor": "log:4", "count": 3, "list": ["a", True]},
    )
    body = json.loads(payload_of(event))
    assert (body["type"], body["timestamp"]) == ("revoked", "2027-01-15T08:00:00.000000Z")
    assert body["data"].pop("id") == "memory:1"
    assert event.row is not None
    assert ParseDict(body["data"], pb.AuditEvent()) == audit_event(event.row)


def test_empty_members_are_left_out() -> None:
    body = json.loads(payload_of(stored()))
    assert body["data"] == {
        "id": "memory:1",
        "chainId": "memory",
        "position": "1",
        "time": "2027-01-15T08:00:00.000000Z",
        "action": "revoked",
        "category": "security",
        "actor": {"kind": "system", "name": "x"},
        "outcome": "success",
    }


def test_event_without_its_row_has_its_type_and_place() -> None:
    body = json.loads(payload_of(StoredEvent(7, "chain", 3, "revoked", None)))
    assert body == {
        "type": "revoked",
        "data": {"id": "chain:3", "chainId": "chain", "position": "3", "action": "revoked"},
    }


def test_large_event_loses_its_fields() -> None:
    body = payload_of(stored(fields={"many": ["x" * 1000] * 70}))
    assert len(body) < MAX_PAYLOAD
    data = json.loads(body)["data"]
    assert (data["truncated"], "fields" in data) == (True, False)


def test_payload_of_a_test_names_the_webhook() -> None:
    assert json.loads(payload_of_test("wh_1", START)) == {
        "type": "webhook.test",
        "timestamp": "2027-01-15T08:00:00.000000Z",
        "data": {"webhookId": "wh_1"},
    }
