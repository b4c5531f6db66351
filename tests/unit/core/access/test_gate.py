"""Every use case that passes the gate refuses a caller without the permission it needs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress

import pytest

from tests.unit.core.node import Node
from token_service.clock import SystemClock
from token_service.core.access.caller import Caller
from token_service.core.access.gate import NEEDED, UseCase, admit
from token_service.core.access.permissions import Permission
from token_service.core.keys.administration import SigningKeys
from token_service.core.revocation.confirmations import Confirmations
from token_service.core.revocation.key_revocation import KeyRevocation
from token_service.core.revocation.revoker import RevokeCommand
from token_service.core.validation.batch import validate_batch
from token_service.errors import InvalidRequestError, PermissionDeniedError
from token_service.tokens.revocation import Cursor, RevocationTarget
from token_service.v1 import key_service_pb2, session_service_pb2, token_service_pb2

RPCS = [
    method.name
    for module in (token_service_pb2, session_service_pb2, key_service_pb2)
    for service in module.DESCRIPTOR.services_by_name.values()
    for method in service.methods
]
SUBJECT = RevokeCommand(target=RevocationTarget.SUBJECT, value="alice")
EVERYTHING = RevokeCommand(target=RevocationTarget.EVERYTHING)


async def list_keys(node: Node, caller: Caller) -> None:
    SigningKeys(node.keyring, node.key_manager).list(caller, 0, "")


async def prepare(node: Node, caller: Caller) -> None:
    await SigningKeys(node.keyring, node.key_manager).prepare(caller, "HS256", 0)


async def activate(node: Node, caller: Caller) -> None:
    await SigningKeys(node.keyring, node.key_manager).activate(caller, "", force=True)


async def retire(node: Node, caller: Caller) -> None:
    await SigningKeys(node.keyring, node.key_manager).retire(caller, "")


async def revoke_key(node: Node, caller: Caller) -> None:
    await KeyRevocation(node.keyring, node.revoker.carry_out).revoke(caller, "", "", node.clock.now())


async def revoke(node: Node, caller: Caller) -> None:
    await node.revoker.revoke(SUBJECT, node.clock.now(), caller)


async def revoke_widely(node: Node, caller: Caller) -> None:
    may_revoke = Caller("a", caller.permissions | {Permission.REVOKE})
    await node.revoker.revoke(EVERYTHING, node.clock.now(), may_revoke)


async def confirm(node: Node, caller: Caller) -> None:
    await Confirmations(node.read_index, node.validators).confirm(caller, "a", None, 0)


async def batch(node: Node, caller: Caller) -> None:
    async for _ in validate_batch(node.introspector, node.clock, caller, 0, [], strong=False):
        pass


CALLS: dict[UseCase, Callable[[Node, Caller], Awaitable[None]]] = {
    UseCase.LIST_SIGNING_KEYS: list_keys,
    UseCase.PREPARE_SIGNING_KEY: prepare,
    UseCase.ACTIVATE_SIGNING_KEY: activate,
    UseCase.RETIRE_SIGNING_KEY: retire,
    UseCase.REVOKE_SIGNING_KEY: revoke_key,
    UseCase.REVOKE_TOKEN: revoke,
    UseCase.REVOKE_WIDELY: revoke_widely,
    UseCase.CONFIRM_REVOCATIONS: confirm,
    UseCase.BATCH_VALIDATE_TOKENS: batch,
}


def test_every_use_case_says_what_it_needs() -> None:
    assert set(NEEDED) == set(UseCase)


def test_every_rpc_is_a_use_case() -> None:
    assert sorted(RPCS) == sorted(use_case.value for use_case in set(UseCase) - {UseCase.REVOKE_WIDELY})


@pytest.mark.parametrize("use_case", UseCase)
def test_the_gate_asks_for_the_permission_of_the_table(use_case: UseCase) -> None:
    permission = NEEDED[use_case]
    if permission is None:
        admit(Caller.anonymous(), use_case)
        return
    admit(Caller("a", frozenset({permission})), use_case)
    with pytest.raises(PermissionDeniedError):
        admit(Caller("a", frozenset(Permission) - {permission}), use_case)


@pytest.mark.parametrize("use_case", CALLS)
async def test_a_use_case_refuses_a_caller_without_its_permission(use_case: UseCase) -> None:
    node = await Node(SystemClock()).start()
    permission = NEEDED[use_case]
    assert permission is not None
    with pytest.raises(PermissionDeniedError) as denied:
        await CALLS[use_case](node, Caller("a", frozenset(Permission) - {permission}))
    assert denied.value.metadata == {"permission": permission.value}
    assert (await node.stores.log.head()).sequence == 0
    with suppress(InvalidRequestError):  # past the gate
        await CALLS[use_case](node, Caller("a", frozenset({permission})))


async def test_a_confirmation_beyond_the_head_counts_as_the_head_under_the_name_of_its_caller() -> None:
    node = await Node(SystemClock()).start()
    await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    noted: list[tuple[object, ...]] = []

    class Registry:
        def confirm(self, *fields: object, caller: str) -> None:
            noted.append((*fields, caller))

    confirmations = Confirmations(node.read_index, Registry())  # type: ignore[arg-type]
    caller = Caller("a", frozenset(Permission), identity="id-1")
    epoch = node.replica.epoch
    head = await confirmations.confirm(caller, "gateway", Cursor(epoch, 99), 7)
    assert head == Cursor(epoch, 1)
    assert noted == [("id-1:gateway", 1, 7, "id-1")]
    for name, applied in (("", head), ("gateway", None), ("gateway", Cursor("another", 1))):
        assert await confirmations.confirm(caller, name, applied, 7) == head
    assert len(noted) == 1
