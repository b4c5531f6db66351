"""The key lifecycle over gRPC: each method once with success, and each refusal."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.core.node import SYSTEM, Node
from tests.unit.rpc.serving import Served, refused, serving
from token_service.clock import SystemClock
from token_service.tokens.algorithms import Algorithm
from token_service.v1 import key_service_pb2 as pb, token_service_pb2

PREPARED, ACTIVE, RETIRED, REVOKED = (
    pb.SIGNING_KEY_STATE_PREPARED,
    pb.SIGNING_KEY_STATE_ACTIVE,
    pb.SIGNING_KEY_STATE_RETIRED,
    pb.SIGNING_KEY_STATE_REVOKED,
)


class Clock(SystemClock):
    """The clocks of this machine, with an offset of the wall clock."""

    offset = 0.0

    def now(self) -> float:
        return SystemClock.now() + self.offset


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serving(node=Node(Clock(), algorithm=Algorithm.ES256)) as served:
        yield served


async def prepare(served: Served, **fields: Any) -> pb.SigningKey:
    return (await served.keys.PrepareSigningKey(pb.PrepareSigningKeyRequest(**fields))).signing_key


async def listed(served: Served) -> dict[str, int]:
    page = await served.keys.ListSigningKeys(pb.ListSigningKeysRequest())
    return {key.key_id: key.state for key in page.signing_keys}


async def published(served: Served) -> set[str]:
    answer = await served.keys.GetKeySet(pb.GetKeySetRequest())
    return {key.kid for key in answer.key_set.keys}


async def test_key_is_prepared_activated_retired_and_revoked(served: Served) -> None:
    first = served.node.keyring.signer().key_id
    old_token = (await served.issue()).access_token
    key = await prepare(served)
    assert (key.state, key.algorithm, key.provider) == (PREPARED, "ES256", "local")
    assert not key.HasField("activate_time")
    assert await published(served) == {first, key.key_id}

    request = pb.ActivateSigningKeyRequest(key_id=key.key_id)
    failure = await refused(served.keys.ActivateSigningKey(request))
    assert (failure.code, failure.reason) == ("FAILED_PRECONDITION", "KEY_NOT_ANNOUNCED")
    assert failure.retry_after is not None
    assert 590 < failure.retry_after <= 600
    served.node.clock.offset = 601
    activated = (await served.keys.ActivateSigningKey(request)).signing_key
    assert activated.state == ACTIVE
    assert activated.HasField("activate_time")
    assert (await served.keys.ActivateSigningKey(request)).signing_key == activated
    assert await listed(served) == {first: RETIRED, key.key_id: ACTIVE}
    assert await published(served) == {first, key.key_id}
    assert (await served.validate(old_token)).active
    token = (await served.issue()).access_token

    await prepare(served)
    retire = pb.RetireSigningKeyRequest(key_id=key.key_id)
    assert (await refused(served.keys.RetireSigningKey(retire))).reason == "KEY_NOT_ANNOUNCED"
    served.node.clock.offset = 1202
    retired = (await served.keys.RetireSigningKey(retire)).signing_key
    assert retired.state == RETIRED
    assert retired.HasField("retire_time")
    assert (await served.keys.RetireSigningKey(retire)).signing_key == retired
    assert (await served.validate(token)).active

    revoke = pb.RevokeSigningKeyRequest(key_id=key.key_id, comment="it was on a laptop")
    answer = await served.keys.RevokeSigningKey(revoke)
    assert answer.signing_key.state == REVOKED
    assert answer.signing_key.HasField("revoke_time")
    assert not (await served.validate(token)).active
    assert (await served.validate(old_token)).active
    assert key.key_id not in await published(served)
    again = await served.keys.RevokeSigningKey(revoke)
    assert (again.signing_key, again.cursor) == (answer.signing_key, answer.cursor)


async def test_force_activates_an_unannounced_key(served: Served) -> None:
    key = await prepare(served)
    request = pb.ActivateSigningKeyRequest(key_id=key.key_id, force=True)
    assert (await served.keys.ActivateSigningKey(request)).signing_key.state == ACTIVE


async def test_key_confirmed_by_all_connected_subscribers_may_sign(served: Served) -> None:
    async with served.follow(subscriber_id="gateway") as reader:
        cursor = (await reader.caught_up()).cursor
        key = await prepare(served)
        while not (message := await reader.next()).HasField("key_set"):
            pass
        assert {each.kid for each in message.key_set.keys} == await published(served)
        request = pb.ActivateSigningKeyRequest(key_id=key.key_id)
        for revision in (0, message.key_set.revision - 1):
            await confirm(served, cursor, revision)
            assert (await refused(served.keys.ActivateSigningKey(request))).reason == "KEY_NOT_ANNOUNCED"
        await confirm(served, cursor, message.key_set.revision)
        assert (await served.keys.ActivateSigningKey(request)).signing_key.state == ACTIVE


async def confirm(served: Served, cursor: str, revision: int) -> None:
    request = token_service_pb2.ConfirmRevocationsRequest(
        subscriber_id="gateway", applied_cursor=cursor, key_set_revision=revision
    )
    await served.tokens.ConfirmRevocations(request)


async def test_key_revocation_reaches_readers_with_the_remaining_keys(served: Served) -> None:
    token = (await served.issue()).access_token
    first = served.node.keyring.signer().key_id
    async with served.follow() as reader:
        await reader.caught_up()
        answer = await served.keys.RevokeSigningKey(pb.RevokeSigningKeyRequest(key_id=first))
        killed, keys = False, {first}
        while not killed or first in keys:
            message = await reader.next()
            killed = killed or any(entry.key_id == first for entry in message.revocations)
            if message.HasField("key_set"):
                keys = {key.kid for key in message.key_set.keys}
                assert keys
        assert reader.cursor == answer.cursor
    assert not (await served.validate(token)).active
    assert (await served.validate((await served.issue()).access_token)).active
    assert [fields["comment"] for fields in served.node.audit.named("revoked")] == [""]


@pytest.mark.parametrize("algorithm", ["RS256", "PS256"])
async def test_prepared_key_has_the_requested_algorithm_and_size(served: Served, algorithm: str) -> None:
    key = await prepare(served, algorithm=algorithm, rsa_bits=3072)
    assert (key.algorithm, key.public_key.kty, key.public_key.alg) == (algorithm, "RSA", algorithm)
    assert len(key.public_key.n) == 512
    request = pb.ActivateSigningKeyRequest(key_id=key.key_id, force=True)
    failure = await refused(served.keys.ActivateSigningKey(request))
    assert (failure.code, failure.reason) == ("FAILED_PRECONDITION", "KEY_STATE")
    assert "TOKEN_SERVICE_SIGNING_ALGORITHM" in failure.message


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"algorithm": "HS256"}, "algorithm"),
        ({"algorithm": "none"}, "algorithm"),
        ({"algorithm": "rs256"}, "algorithm"),
        ({"rsa_bits": 1024}, "rsa_bits"),
        ({"rsa_bits": -1}, "rsa_bits"),
        ({"rsa_bits": 8192}, "rsa_bits"),
    ],
)
async def test_invalid_key_request_is_refused(served: Served, fields: Any, field: str) -> None:
    failure = await refused(prepare(served, **fields))
    assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", [field])


METHODS = [
    ("ActivateSigningKey", pb.ActivateSigningKeyRequest),
    ("RetireSigningKey", pb.RetireSigningKeyRequest),
    ("RevokeSigningKey", pb.RevokeSigningKeyRequest),
]


@pytest.mark.parametrize(("method", "request_type"), METHODS)
async def test_unknown_key_is_not_found(served: Served, method: str, request_type: Any) -> None:
    call = getattr(served.keys, method)
    failure = await refused(call(request_type(key_id="unknown")))
    assert (failure.code, failure.reason) == ("NOT_FOUND", "KEY_NOT_FOUND")
    for key_id in ("", "x" * 1000, "a\0b"):
        failure = await refused(call(request_type(key_id=key_id)))
        assert (failure.code, list(failure.fields)) == ("INVALID_ARGUMENT", ["key_id"])


async def test_wrong_key_state_is_a_failed_precondition(served: Served) -> None:
    only = served.node.keyring.signer().key_id
    failure = await refused(served.keys.RetireSigningKey(pb.RetireSigningKeyRequest(key_id=only)))
    assert (failure.code, failure.reason) == ("FAILED_PRECONDITION", "KEY_STATE")
    await served.keys.RevokeSigningKey(pb.RevokeSigningKeyRequest(key_id=only))
    for method, request_type in METHODS[:2]:
        failure = await refused(getattr(served.keys, method)(request_type(key_id=only)))
        assert (failure.code, failure.reason) == ("FAILED_PRECONDITION", "KEY_STATE")


async def test_key_just_made_on_another_node_can_be_revoked(served: Served) -> None:
    other = Node(served.node.clock, stores=served.node.stores, algorithm=Algorithm.ES256, node_id="node-2")
    await other.key_rotation.ensure()
    key = await other.key_manager.prepare(SYSTEM, None)
    request = pb.RevokeSigningKeyRequest(key_id=key.key_id)
    assert (await served.keys.RevokeSigningKey(request)).signing_key.state == REVOKED


async def test_a_token_of_a_key_that_another_node_just_made_is_good_here(served: Served) -> None:
    other = Node(served.node.clock, stores=served.node.stores, algorithm=Algorithm.ES256, node_id="node-2")
    await other.start()
    key = await other.key_manager.prepare(SYSTEM, None)
    await other.key_manager.activate(SYSTEM, key.key_id, force=True)
    token = (await other.issue()).access_token
    assert (await served.validate(token)).active


async def test_key_revocation_succeeds_with_a_damaged_table(served: Served) -> None:
    token = (await served.issue()).access_token
    only = served.node.keyring.signer().key_id
    spare = await prepare(served)
    stored = await served.node.stores.keys.load()
    (row,) = [key for key in stored.signing_keys if key.key_id == spare.key_id]
    await served.node.stores.keys.save(stored.revision, [replace(row, public_key=b"")], [])
    answer = await served.keys.RevokeSigningKey(pb.RevokeSigningKeyRequest(key_id=only))
    assert answer.signing_key.state == REVOKED
    assert answer.cursor
    assert not (await served.validate(token)).active
