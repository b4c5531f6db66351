"""RevokeSessions and CountSessions: parts, repetition, bounds, dry runs and audit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Operation, Rate
from token_service.core.policies.rights import Permission, Right
from token_service.core.revocation.bulk import MAX_SESSIONS_REVOKED, RevokedSessions, RevokeSessionsCommand
from token_service.core.sessions.selection import Accuracy, SessionSelection
from token_service.core.sessions.session import SessionState
from token_service.errors import InvalidRequestError, PermissionDeniedError, RateLimitedError
from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget

OF_WEB = SessionSelection(client_id="web", subject="alice")


async def a_node(**options: Any) -> Node[ManualClock]:
    return await Node(ManualClock(), **options).start()


async def revoke(
    node: Node[ManualClock],
    caller: Caller | None = None,
    selection: SessionSelection = OF_WEB,
    **command: Any,
) -> RevokedSessions:
    return await node.core.bulk_revocation.revoke(
        caller or Caller.system(), RevokeSessionsCommand(selection=selection, **command), node.clock.now()
    )


async def states(node: Node[ManualClock], *tokens: Any) -> list[SessionState]:
    sessions = [await node.session(each.session_id) for each in tokens]
    return [each.state(node.clock.now()) for each in sessions]


async def entries(node: Node[ManualClock]) -> list[Revocation]:
    return list(await node.log.read(0, 1000))


async def test_parts_revoke_every_session_of_the_filter_and_no_other() -> None:
    node = await a_node()
    mine = [await node.issue() for _ in range(5)]
    others = [await node.issue("bob"), await node.issue(client_id="app")]
    parts, token = [], ""
    while True:
        part = await revoke(
            node, max_sessions=2, page_token=token, reason=RevocationReason.COMPROMISED, comment="leak"
        )
        parts.append(part.sessions)
        head = await node.log.head()
        assert part.cursor is not None
        assert (part.cursor.epoch, part.cursor.sequence) == (head.epoch, head.sequence)
        token = part.next_page_token
        if not token:
            break
    assert parts == [2, 2, 1]
    assert await states(node, *mine) == [SessionState.REVOKED] * 5
    assert await states(node, *others) == [SessionState.ACTIVE] * 2
    assert {(each.target, each.reason) for each in await entries(node)} == {
        (RevocationTarget.SESSION, RevocationReason.COMPROMISED)
    }
    assert {each.value for each in await entries(node)} == {each.session_id for each in mine}
    rows = [row for row in node.stores.audit.by_place.values() if row.action == "revoked"]
    assert [(row.comment, row.actor_kind) for row in rows] == [("leak", "system")] * 5
    assert len(node.audit.named("revoked")) == 5
    for tokens in mine:
        assert (await node.validate(tokens.access_token)).reason is not None


async def test_repeated_call_revokes_nothing_twice() -> None:
    node = await a_node()
    for _ in range(3):
        await node.issue()
    first = await revoke(node, max_sessions=2)
    again = await revoke(node, max_sessions=2)
    rest = await revoke(node, max_sessions=2, page_token=first.next_page_token)
    assert (first.sessions, again.sessions, rest.sessions) == (2, 1, 0)
    assert len(await entries(node)) == 3
    assert (await revoke(node)).sessions == 0


async def test_session_revoked_between_selection_and_append_has_one_entry(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = await a_node()
    tokens = await node.issue()
    select = node.stores.selections.part

    async def slow(*args: Any, **options: Any) -> Any:
        part = await select(*args, **options)
        await node.revoke(target=RevocationTarget.SESSION, value=tokens.session_id)
        return part

    monkeypatch.setattr(node.stores.selections, "part", slow)
    assert (await revoke(node)).sessions == 0
    assert len(await entries(node)) == 1


async def test_dry_run_counts_and_changes_nothing() -> None:
    node = await a_node()
    tokens = [await node.issue() for _ in range(3)]
    result = await revoke(node, dry_run=True)
    assert (result.sessions, result.accuracy, result.cursor) == (3, Accuracy.EXACT, None)
    assert await states(node, *tokens) == [SessionState.ACTIVE] * 3
    assert await entries(node) == []


async def test_session_that_expired_while_its_access_token_lives_is_revoked() -> None:
    node = await a_node(policy=Policy(idle_timeout=60, access_token_ttl=3600))
    tokens = await node.issue()
    node.clock.elapsed += 61
    assert await states(node, tokens) == [SessionState.IDLE]
    assert (await node.core.bulk_revocation.count(Caller.system(), OF_WEB, node.clock.now())).sessions == 0
    assert (await revoke(node)).sessions == 1
    await node.issue()
    node.clock.elapsed += 60 + 3900 + 1
    assert (await revoke(node)).sessions == 0


@pytest.mark.parametrize(
    ("selection", "advised"),
    [
        (SessionSelection(subject="alice"), "this subject"),
        (SessionSelection(client_id="web"), "this client_id"),
        (OF_WEB, ""),
        (SessionSelection(subject="alice", created_before=9e9), ""),
        (SessionSelection(device_id="phone"), ""),
    ],
)
async def test_better_way_is_advised_for_exactly_a_subject_or_a_client(
    selection: SessionSelection, advised: str
) -> None:
    node = await a_node()
    for dry_run in (True, False):
        advice = (await revoke(node, selection=selection, dry_run=dry_run)).advice
        assert advised in advice
        assert bool(advice) == bool(advised)


BOUND = Caller("web only", Rights([Right(permission=Permission.REVOKE, clients=("web",))]))
UNBOUND = Caller("revoker", Rights.of(Permission.REVOKE))


async def test_caller_for_one_client_revokes_sessions_of_this_client_only() -> None:
    node = await a_node()
    await node.issue()
    for dry_run in (True, False):
        assert (await revoke(node, BOUND, dry_run=dry_run)).sessions == 1
        for selection in (SessionSelection(client_id="app"), SessionSelection(subject="alice")):
            with pytest.raises(PermissionDeniedError) as denied:
                await revoke(node, BOUND, selection, dry_run=dry_run)
            assert denied.value.metadata == {"permission": "revoke", "bound": "clients"}


async def test_filter_of_times_alone_needs_the_right_to_revoke_everything() -> None:
    node = await a_node()
    await node.issue()
    everybody = SessionSelection(created_before=9e9, last_used_before=9e9)
    with pytest.raises(PermissionDeniedError) as denied:
        await revoke(node, UNBOUND, everybody)
    assert denied.value.metadata == {"permission": "admin.write"}
    assert (await revoke(node, UNBOUND, SessionSelection(upstream="corporate"))).sessions == 0
    both = Caller("a", Rights.of(Permission.REVOKE, Permission.ADMIN_WRITE))
    assert (await revoke(node, both, everybody)).sessions == 1


async def test_rate_of_the_caller_counts_calls() -> None:
    node = await a_node()
    rights = Rights(Rights.of(Permission.REVOKE), {Operation.REVOKE: Rate(1, 60)})
    caller = Caller("limited", rights)
    await revoke(node, caller)
    with pytest.raises(RateLimitedError):
        await revoke(node, caller)


@pytest.mark.parametrize(
    ("change", "field"),
    [
        (lambda _: {"selection": SessionSelection()}, "filter"),
        (lambda _: {"selection": SessionSelection(subject="a\0")}, "filter.subject"),
        (lambda _: {"selection": SessionSelection(client_id="x" * 257)}, "filter.client_id"),
        (lambda _: {"max_sessions": MAX_SESSIONS_REVOKED + 1}, "max_sessions"),
        (lambda _: {"max_sessions": -1}, "max_sessions"),
        (lambda _: {"comment": "x" * 513}, "comment"),
        (lambda _: {"page_token": "!"}, "page_token"),
        (lambda _: {"page_token": "AAAA"}, "page_token"),
        (lambda token: {"page_token": token, "selection": SessionSelection(subject="bob")}, "page_token"),
    ],
)
async def test_wrong_fields_are_refused(change: Callable[[str], dict[str, Any]], field: str) -> None:
    node = await a_node()
    for _ in range(2):
        await node.issue()
    token = (await revoke(node, max_sessions=1)).next_page_token
    with pytest.raises(InvalidRequestError) as refused:
        await revoke(node, **change(token))
    assert [each.field for each in refused.value.violations] == [field]
    assert len(await entries(node)) == 1


async def test_count_tells_owners_and_the_oldest_session() -> None:
    node = await a_node()
    start = node.clock.now()
    await node.issue()
    node.clock.elapsed += 5
    await node.issue(client_id="app")
    await node.issue("bob")
    reach = await node.core.bulk_revocation.count(
        Caller.system(), SessionSelection(subject="alice"), node.clock.now()
    )
    assert (reach.sessions, reach.subjects, reach.clients) == (2, 1, 2)
    assert reach.top_clients == [("app", 1), ("web", 1)]
    assert reach.oldest_create_time == pytest.approx(start, abs=1e-5)
    with pytest.raises(InvalidRequestError):
        await node.core.bulk_revocation.count(Caller.system(), SessionSelection(), node.clock.now())
