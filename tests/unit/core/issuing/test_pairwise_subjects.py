"""Pairwise subjects in ID tokens: what a client learns of its users, and the revocations that end such tokens.

Invariant: an ID token of a client with pairwise subjects never has the subject in the clear, and `ValidateToken` refuses
it as soon as its subject is revoked, with or without a session, at every node that has the key.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from typing import Any

import pytest

from tests.unit.core.jwts import claims_of
from tests.unit.core.node import Node
from tests.unit.core.virtual_time import LoopClock, cancelled, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.clients.client import ClientMetadata, SubjectType
from token_service.core.sessions.store import SessionFilter
from token_service.core.validation.introspector import Introspection
from token_service.errors import (
    ClientDisabledError,
    InvalidReason,
    PolicyViolationError,
    ReservedClaimError,
    SessionRevokedError,
)
from token_service.tokens.claims import SEALED_SUBJECT, TokenKind, VerifiedClaims
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret

KEY = Secret(bytes(range(32)))
ID_ONLY = frozenset({TokenKind.ID})
ALL = frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.ID})


class NoSectors:
    async def redirect_uris(self, url: str) -> list[str]:
        raise AssertionError(url)


async def a_node(key: Secret | None = KEY, **options: Any) -> Node[LoopClock]:
    return await Node(LoopClock(), pairwise_key=key, sectors=NoSectors(), **options).start()


async def register(node: Node[LoopClock], client_id: str, host: str, kind: SubjectType) -> None:
    metadata = ClientMetadata(subject_type=kind, redirect_uris=(f"https://{host}/cb",))
    await node.core.client_administration.create(Caller.system(), client_id, metadata, node.clock.now())


async def with_clients(node: Node[LoopClock]) -> Node[LoopClock]:
    """Register `a` and `a2` in one sector, `b` in another one, and `open` with public subjects."""
    for client_id, host in (("a", "a.example"), ("a2", "a.example"), ("b", "b.example")):
        await register(node, client_id, host, SubjectType.PAIRWISE)
    await register(node, "open", "a.example", SubjectType.PUBLIC)
    return node


async def id_token(node: Node[LoopClock], client_id: str, subject: str = "alice") -> str:
    return (await node.issue(subject, client_id, kinds=ID_ONLY)).id_token


async def subject_for(node: Node[LoopClock], client_id: str, subject: str = "alice") -> str:
    return str(claims_of(await id_token(node, client_id, subject))["sub"])


def revealed(node: Node[LoopClock], answer: Introspection) -> str:
    assert isinstance(answer.claims, VerifiedClaims)
    return node.core.subjects.subject_of(answer.claims)


@virtual_time
async def test_subject_is_the_hmac_of_sector_and_subject() -> None:
    node = await with_clients(await a_node())
    digest = hmac.digest(KEY.reveal(), b"a.example\0alice", hashlib.sha256)
    assert await subject_for(node, "a") == base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


@virtual_time
async def test_subject_is_the_same_in_a_sector_and_another_one_elsewhere() -> None:
    node = await with_clients(await a_node())
    of_a = await subject_for(node, "a")
    assert await subject_for(node, "a") == of_a
    assert await subject_for(node, "a2") == of_a
    others = [await subject_for(node, "b"), await subject_for(node, "a", "bob"), "alice"]
    assert len({of_a, *others}) == 4
    assert await subject_for(node, "open") == await subject_for(node, "unregistered") == "alice"


@virtual_time
async def test_subject_survives_other_nodes_restarts_and_rotations_of_other_keys() -> None:
    node = await with_clients(await a_node())
    before = await subject_for(node, "a")
    for version in range(3):
        stored = await node.stores.keys.load()
        assert await node.stores.keys.save(
            stored.revision, [], [node.core.key_rotation._maker.mac_key(10 + version, node.clock.now())]
        )
    other = await a_node(stores=node.stores, node_id="node-2", seed=2)
    assert await subject_for(other, "a") == before


@virtual_time
async def test_access_token_keeps_the_subject_and_the_id_token_hides_it() -> None:
    node = await with_clients(await a_node())
    tokens = await node.issue("alice", "a", kinds=ALL)
    refreshed = await node.refresh(tokens.refresh_token, "a")
    assert claims_of(tokens.access_token)["sub"] == claims_of(refreshed.access_token)["sub"] == "alice"
    first, second = claims_of(tokens.id_token), claims_of(refreshed.id_token)
    assert first["sub"] == second["sub"] != "alice"
    assert "alice" not in json.dumps([first, second])


@virtual_time
async def test_sealed_subjects_have_nothing_in_common() -> None:
    node = await with_clients(await a_node())
    sealed = [
        claims_of(await id_token(node, client_id, subject))[SEALED_SUBJECT]
        for client_id in ("a", "b")
        for subject in ("alice", "alice", "somebody-with-a-long-name@example.org")
    ]
    assert len({text[:8] for text in sealed}) == len({text[-8:] for text in sealed}) == 6
    assert len({len(text) for text in sealed}) == 1


@virtual_time
@pytest.mark.parametrize("subject", ["alice", "a" * 64, "é" * 128, "x" * 256])
async def test_the_service_finds_the_subject_of_its_token_again(subject: str) -> None:
    node = await with_clients(await a_node())
    for client_id in ("a", "open"):
        answer = await node.validate(await id_token(node, client_id, subject))
        assert revealed(node, answer) == subject
    answer = await node.validate((await node.issue(subject, "a")).access_token)
    assert revealed(node, answer) == subject


# --- Revocation -----------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize("kinds", [ID_ONLY, ALL], ids=["without a session", "with a session"])
async def test_revoked_subject_ends_its_pairwise_id_tokens_at_every_node(kinds: frozenset[TokenKind]) -> None:
    node = await with_clients(await a_node())
    other = await a_node(stores=node.stores, node_id="node-2", seed=2)
    tokens = [(await node.issue("alice", client_id, kinds=kinds)).id_token for client_id in ("a", "b")]
    of_bob = (await node.issue("bob", "a", kinds=kinds)).id_token
    for token in (*tokens, of_bob):  # the verdict is cached
        assert (await node.validate(token)).reason is None
        assert (await other.validate(token)).reason is None
    await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    follows = asyncio.create_task(other.tailer.run())
    await other.tailer.catch_up()
    for each in (node, other):
        assert [(await each.validate(token)).reason for token in tokens] == [InvalidReason.REVOKED] * 2
        assert (await each.validate(of_bob)).reason is None
    await cancelled(follows)
    assert (await node.validate(await id_token(node, "a"))).reason is None  # issued after the revocation


@virtual_time
async def test_session_client_token_and_pairwise_subject_revoke_as_for_other_tokens() -> None:
    node = await with_clients(await a_node())

    async def reason_after(target: RevocationTarget | None, value: str = "", token: str = "") -> Any:
        issued = await node.issue("alice", "a", kinds=ALL)
        named = {"session": issued.session_id, "token": issued.id_token}
        await node.revoke(target=target, value=named.get(value, value), token=named.get(token, ""))
        return (await node.validate(issued.id_token)).reason

    assert await reason_after(RevocationTarget.SESSION, "session") is InvalidReason.REVOKED
    assert await reason_after(None, token="token") is InvalidReason.REVOKED
    assert await reason_after(RevocationTarget.CLIENT, "a") is InvalidReason.REVOKED
    assert await reason_after(RevocationTarget.SUBJECT, await subject_for(node, "a")) is InvalidReason.REVOKED


@virtual_time
async def test_refresh_after_the_revocation_of_the_subject_is_refused() -> None:
    node = await with_clients(await a_node())
    tokens = await node.issue("alice", "a", kinds=ALL)
    await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    with pytest.raises(SessionRevokedError):
        await node.refresh(tokens.refresh_token, "a")


# --- Nodes without the key, and clients that change -----------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize("key", [None, Secret(bytes(32))], ids=["no key", "another key"])
async def test_node_without_the_key_accepts_no_pairwise_id_token(key: Secret | None) -> None:
    node = await with_clients(await a_node())
    other = await a_node(key, stores=node.stores, node_id="node-2")
    answer = await other.validate(await id_token(node, "a"))
    assert answer.reason is InvalidReason.UNKNOWN_KEY


@virtual_time
async def test_node_without_a_key_issues_no_id_token_and_opens_no_session() -> None:
    node = await with_clients(await a_node())
    other = await a_node(None, stores=node.stores, node_id="node-2")
    with pytest.raises(PolicyViolationError, match="TOKEN_SERVICE_PAIRWISE_KEY"):
        await other.issue("alice", "a", kinds=ALL)
    page = await other.session_store.list(SessionFilter.SUBJECT, "alice", live_at=None, limit=1, after=None)
    assert page == []
    assert (await other.issue("alice", "a")).access_token


@virtual_time
async def test_deleted_client_gets_no_token_with_the_subject_in_the_clear() -> None:
    node = await with_clients(await a_node())
    await node.core.client_administration.delete(Caller.system(), "a", node.clock.now())
    with pytest.raises(ClientDisabledError):
        node.core.subjects.claims("a", "alice", "id")


@virtual_time
async def test_no_request_sets_the_sealed_subject() -> None:
    node = await with_clients(await a_node())
    with pytest.raises(ReservedClaimError):
        await node.issue("alice", "open", kinds=ID_ONLY, custom_claims={SEALED_SUBJECT: "x"})
