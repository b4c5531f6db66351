"""Revoking a signing key: durable, repeatable, and only for keys that exist."""

from __future__ import annotations

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.keys.store import SigningKeyState
from token_service.core.revocation.key_revocation import KeyRevocation
from token_service.errors import InvalidRequestError, KeyNotFoundError

SYSTEM = Caller.system()


@pytest.fixture
async def node() -> Node:
    return await Node(ManualClock(), max_staleness=1e12).start()


async def test_a_revoked_key_is_in_the_log_once_however_often_it_is_revoked(node: Node) -> None:
    key_id = node.keyring.signer().key_id
    revocation = KeyRevocation(node.keyring, node.revoker.carry_out)
    first = await revocation.revoke(SYSTEM, key_id, "stolen", node.clock.now())
    assert (first.key.key_id, first.key.state) == (key_id, SigningKeyState.REVOKED)
    assert first.cursor.sequence == 1
    again = await revocation.revoke(SYSTEM, key_id, "", node.clock.now())
    assert (again.key.state, again.cursor) == (SigningKeyState.REVOKED, first.cursor)
    assert node.keyring.signer().key_id != key_id


@pytest.mark.parametrize("key_id", ["", "x" * 257, "a\0b"])
async def test_a_wrong_key_id_is_refused(node: Node, key_id: str) -> None:
    revocation = KeyRevocation(node.keyring, node.revoker.carry_out)
    with pytest.raises(InvalidRequestError) as error:
        await revocation.revoke(SYSTEM, key_id, "", node.clock.now())
    assert [violation.field for violation in error.value.violations] == ["key_id"]
    with pytest.raises(KeyNotFoundError):
        await revocation.revoke(SYSTEM, "unknown", "", node.clock.now())
    assert (await node.log.head()).sequence == 0
