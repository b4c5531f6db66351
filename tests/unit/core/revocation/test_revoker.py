"""A revocation is durable before it is acknowledged, hits only its target, and succeeds without one."""

from __future__ import annotations

import asyncio
import gc
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.jwts import claims_of, header_of
from tests.unit.core.node import Intercepted, Node, raising, sequences
from tests.unit.core.virtual_time import START, LoopClock, ManualClock, cancelled, settle, virtual_time
from token_service.core import limits
from token_service.core.access.caller import Caller
from token_service.core.issuing.commands import ISSUABLE, IssuedTokens
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.drafts import REMEMBER
from token_service.errors import InvalidReason, InvalidRequestError, RateLimitedError, StoreUnavailableError
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import MAX_LEEWAY, RevocationReason, RevocationTarget

ALL = ISSUABLE
Target = RevocationTarget


async def a_node(**options: Any) -> Node:
    return await Node(ManualClock(), **{"max_staleness": 1e12, **options}).start()


async def good(node: Node, tokens: IssuedTokens) -> set[str]:
    """Return which of the tokens are valid."""
    texts = {
        "access": tokens.access_token,
        "id": tokens.id_token,
        "refresh": tokens.refresh_token,
        "session": tokens.session_token,
    }
    return {name for name, text in texts.items() if text and (await node.validate(text)).reason is None}


EVERY = {"access", "id", "refresh", "session"}


# --- Targets ---------------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize(
    ("by", "left"),
    [
        ("access_token", EVERY - {"access"}),
        ("id_token", EVERY - {"id"}),
        ("refresh_token", set()),
        ("session_token", set()),
    ],
)
async def test_jwt_revokes_itself_and_opaque_token_revokes_its_session(by: str, left: set[str]):
    node = await a_node()
    tokens, bystander = await node.issue(kinds=ALL), await node.issue(kinds=ALL)
    outcome = await node.revoke(token=getattr(tokens, by), reason=RevocationReason.LOGOUT)
    assert outcome.cursor == node.replica.cursor
    assert await good(node, tokens) == left
    assert await good(node, bystander) == EVERY
    (entry,) = await node.stores.log.read(0, 10)
    assert entry.reason is RevocationReason.LOGOUT
    assert entry.target is (Target.SESSION if not left else Target.TOKEN_ID)


@virtual_time
async def test_an_old_refresh_token_revokes_its_session_too():
    node = await a_node()
    first = await node.issue()
    second = await node.refresh(first.refresh_token)
    await node.revoke(token=first.refresh_token)
    assert await good(node, second) == set()


@virtual_time
@pytest.mark.parametrize(
    ("target", "hit"),
    [
        (Target.SESSION, {"one"}),
        (Target.SUBJECT, {"one", "same subject"}),
        (Target.CLIENT, {"one", "same client"}),
        (Target.EVERYTHING, {"one", "same subject", "same client", "other"}),
    ],
)
async def test_target_revokes_tokens_issued_before_it_and_none_after(target: Target, hit: set[str]):
    node = await a_node()
    parties = {
        "one": ("alice", "web"),
        "same subject": ("alice", "app"),
        "same client": ("bob", "web"),
        "other": ("bob", "app"),
    }
    issued = {name: await node.issue(*party, kinds=ALL) for name, party in parties.items()}
    value = {
        Target.SESSION: issued["one"].session_id,
        Target.SUBJECT: "alice",
        Target.CLIENT: "web",
        Target.EVERYTHING: "",
    }[target]
    await node.revoke(target=target, value=value)
    for name, tokens in issued.items():
        assert await good(node, tokens) == (set() if name in hit else EVERY), name
    for party in parties.values():
        # At the same moment, but after it in the log.
        assert await good(node, await node.issue(*party, kinds=ALL)) == EVERY


@virtual_time
@pytest.mark.parametrize("target", [Target.SUBJECT, Target.CLIENT, Target.KEY, Target.TOKEN_ID])
async def test_opaque_token_in_the_place_of_an_id_is_refused_so_it_is_not_stored(target: Target):
    node = await a_node()
    tokens = await node.issue("alice", kinds=ALL)
    for token in (tokens.refresh_token, tokens.session_token):
        with pytest.raises(InvalidRequestError, match="has the form of a token") as error:
            await node.core.revoker.revoke(
                Caller.system(), RevokeCommand(target=target, value=token), node.clock.now()
            )
        assert token not in str(error.value)
    assert not node.published
    # A name may begin like a token.
    await node.core.revoker.revoke(
        Caller.system(), RevokeCommand(target=target, value="rt_alice"), node.clock.now()
    )


@virtual_time
async def test_target_everything_ignores_its_value():
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    await node.revoke(target=Target.EVERYTHING, value="but alice")
    assert await good(node, tokens) == set()


@virtual_time
async def test_token_id_alone_revokes_a_token():
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    await node.revoke(target=Target.TOKEN_ID, value=tokens.token_id)
    assert await good(node, tokens) == EVERY - {"access"}


@virtual_time
async def test_revoked_key_revokes_every_token_it_signed():
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    await node.revoke(target=Target.KEY, value=header_of(tokens.access_token)["kid"])
    assert await good(node, tokens) == {"refresh", "session"}
    await node.tailer._look()
    assert await good(node, await node.refresh(tokens.refresh_token)) == {"access", "id", "refresh"}


@virtual_time
async def test_session_created_during_a_revocation_is_wholly_active_or_wholly_revoked():
    node = await a_node()
    created = asyncio.Event()
    go_on = asyncio.Event()

    async def pause() -> None:
        created.set()
        await go_on.wait()

    sessions = Intercepted(node.stores.sessions)
    node.issuer._sessions = sessions
    for hook in ("before", "after"):
        created.clear()
        go_on.clear()
        getattr(sessions, hook)["create"] = pause
        issuing = asyncio.create_task(node.issue(kinds=ALL))
        await created.wait()
        await node.revoke(target=Target.SUBJECT, value="alice")
        go_on.set()
        tokens = await issuing
        assert await good(node, tokens) == (EVERY if hook == "before" else set())
        getattr(sessions, hook).clear()


# --- Tokens without an effect ------------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize(
    "token",
    ["x", "a.b.c", "rt_", "st_" + "A" * 95, "rt_" + "A" * 95, "x" * 100_000, "é", "eyJhbGciOiJub25lIn0.e30."],
    ids=lambda token: token[:8],
)
async def test_revoking_a_foreign_token_succeeds(token: str):
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    outcome = await node.revoke(token=token)
    assert outcome.cursor == node.replica.cursor
    assert (await node.stores.log.head()).sequence == 0
    assert await good(node, tokens) == EVERY
    assert not node.audit.named("revoked")


@virtual_time
async def test_a_forgery_of_a_real_token_revokes_nothing():
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    for text in (tokens.access_token, tokens.id_token, tokens.refresh_token, tokens.session_token):
        middle = len(text) // 2
        forged = text[:middle] + ("A" if text[middle] != "A" else "B") + text[middle + 1 :]
        await node.revoke(token=forged)
    assert await good(node, tokens) == EVERY
    assert (await node.stores.log.head()).sequence == 0


@virtual_time
async def test_expired_token_is_revoked_within_the_leeway():
    node = await a_node()
    tokens = await node.issue(access_token_ttl=60)
    node.clock.elapsed = 60 + MAX_LEEWAY - 1
    await node.revoke(token=tokens.access_token)
    assert (await node.stores.log.head()).sequence == 1
    other = await node.issue(access_token_ttl=60)
    node.clock.elapsed += 60 + MAX_LEEWAY
    await node.revoke(token=other.access_token)
    assert (await node.stores.log.head()).sequence == 1


@virtual_time
async def test_token_that_is_expired_only_by_the_clock_of_the_node_is_revoked():
    node = await a_node()
    tokens = await node.issue(access_token_ttl=60)
    ahead = node.clock.now() + 3600  # the database's clock has not moved
    await node.revoker.revoke(Caller.system(), RevokeCommand(token=tokens.access_token), ahead)
    assert (await node.stores.log.head()).sequence == 1


@virtual_time
async def test_a_token_of_a_revoked_key_needs_no_entry_of_its_own():
    node = await a_node()
    tokens = await node.issue()
    await node.revoke(target=Target.KEY, value=header_of(tokens.access_token)["kid"])
    await node.tailer._look()
    await node.revoke(token=tokens.access_token)
    assert (await node.stores.log.head()).sequence == 1


@virtual_time
async def test_token_of_a_key_just_made_on_another_node_is_revoked():
    node = await a_node()
    behind = await a_node(stores=node.stores, node_id="node-2", seed=2)
    tokens = await node.issue()
    await node.revoke(target=Target.KEY, value=header_of(tokens.access_token)["kid"])
    tokens = await node.issue()
    behind.clock.elapsed += 1
    outcome = await behind.revoke(token=tokens.access_token)
    assert outcome.cursor.sequence == (await node.stores.log.head()).sequence == 2
    await node.tailer._look()
    assert (await node.validate(tokens.access_token)).reason is InvalidReason.REVOKED


@virtual_time
@pytest.mark.parametrize(
    ("target", "value", "entries"),
    [
        (Target.SESSION, "3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57", 0),
        (Target.KEY, "no-such-key", 0),
        (Target.SUBJECT, "nobody", 1),
        (Target.CLIENT, "nobody", 1),
        (Target.TOKEN_ID, "no-such-token", 1),
    ],
)
async def test_revoking_an_unknown_target_succeeds(target: Target, value: str, entries: int):
    node = await a_node()
    for _ in range(2):
        await node.revoke(target=target, value=value)
    assert (await node.stores.log.head()).sequence == 2 * entries


@virtual_time
async def test_session_is_revoked_once_by_any_of_its_names():
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    cursors = [
        (await node.revoke(**command)).cursor
        for command in (
            {"target": Target.SESSION, "value": tokens.session_id.upper()},
            {"target": Target.SESSION, "value": UUID(tokens.session_id).hex},
            {"token": tokens.refresh_token},
            {"token": tokens.session_token},
        )
    ]
    assert {cursor.sequence for cursor in cursors} == {1}
    (entry,) = await node.stores.log.read(0, 10)
    assert entry.value == tokens.session_id


# --- Durable, then everywhere --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_revocation_is_acknowledged_only_when_durable():
    clock = LoopClock()
    stores = MemoryStores(clock)
    log = Intercepted(stores.log)
    node = await Node(clock, stores=stores, log=log).start()
    tokens = await node.issue()
    durable = asyncio.Event()

    async def commit() -> None:
        await durable.wait()

    log.after["append"] = commit
    revoking = asyncio.create_task(node.revoke(token=tokens.refresh_token))
    await asyncio.sleep(1)
    assert not revoking.done()
    assert (node.replica.applied, node.published, node.audit.named("revoked")) == (0, [], [])
    durable.set()
    assert (await revoking).cursor.sequence == 1
    assert node.replica.applied == 1
    assert sequences(node.published) == [1]
    assert len(node.audit.named("revoked")) == 1


@virtual_time
async def test_failed_revocation_is_not_acknowledged():
    stores = MemoryStores()
    log = Intercepted(stores.log)
    node = await a_node(stores=stores, log=log)
    log.before["append"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.revoke(target=Target.SUBJECT, value="alice")
    assert (node.replica.applied, node.published, node.audit.named("revoked")) == (0, [], [])


@virtual_time
async def test_durable_revocation_is_passed_on_after_the_caller_disconnects():
    clock = LoopClock()
    stores = MemoryStores(clock)
    log = Intercepted(stores.log)
    node = await Node(clock, stores=stores, log=log).start()

    async def commit() -> None:
        await asyncio.sleep(1)

    log.before["append"] = commit
    revoking = asyncio.create_task(node.revoke(target=Target.SUBJECT, value="alice"))
    await settle()
    await cancelled(revoking)
    await asyncio.sleep(1.1)
    assert node.replica.applied == 1
    assert sequences(node.published) == [1]


@virtual_time
async def test_failure_without_waiting_callers_is_not_reported_as_unretrieved():
    clock = LoopClock()
    stores = MemoryStores(clock)
    log = Intercepted(stores.log)
    node = await Node(clock, stores=stores, log=log).start()
    problems: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: problems.append(context))

    async def fail() -> None:
        await asyncio.sleep(1)
        raise StoreUnavailableError

    log.before["append"] = fail
    revoking = asyncio.create_task(node.revoke(target=Target.SUBJECT, value="alice"))
    await settle()
    await cancelled(revoking)
    await asyncio.sleep(2)
    del revoking  # its traceback still holds the append
    gc.collect()
    assert not problems


@virtual_time
async def test_overtaken_entry_is_applied_before_the_answer():
    clock = LoopClock()
    stores = MemoryStores(clock)
    node = await Node(clock, stores=stores, poll_interval=60).start()
    running = asyncio.create_task(node.tailer.run())
    await settle()
    other = await Node(clock, stores=stores, node_id="node-2", seed=2).start()
    tokens = await node.issue()
    await other.revoke(target=Target.SUBJECT, value="bob")
    await node.revoke(token=tokens.access_token)
    await settle()
    assert (await node.validate(tokens.access_token)).reason is InvalidReason.REVOKED
    await cancelled(running)


# --- Waiting ----------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_revoke_waits_for_subscribers_only_on_request():
    clock = LoopClock()
    node = await Node(clock).start()
    node.subscribers.connect("v-1")
    node.subscribers.connect("v-2")
    outcome = await node.revoke(target=Target.SUBJECT, value="alice")
    assert (outcome.connected, outcome.applied) == (0, 0)
    waiting = asyncio.create_task(node.revoke(target=Target.SUBJECT, value="bob", wait=5.0))
    await asyncio.sleep(1)
    node.subscribers.confirm("v-1", 2)
    node.subscribers.confirm("v-2", 1)  # up to the entry before
    await asyncio.sleep(1)
    assert not waiting.done()
    node.subscribers.confirm("v-2", 2)
    outcome = await waiting
    assert (outcome.cursor.sequence, outcome.connected, outcome.applied) == (2, 2, 2)


@virtual_time
async def test_timed_out_wait_reports_its_counts():
    clock = LoopClock()
    node = await Node(clock).start()
    node.subscribers.connect("v-1")
    node.subscribers.connect("v-2")
    node.subscribers.confirm("v-1", 1)
    outcome = await node.revoke(target=Target.SUBJECT, value="alice", wait=2.0)
    assert (outcome.connected, outcome.applied, clock.monotonic()) == (2, 1, 2.0)


@virtual_time
async def test_repeated_revocation_can_wait_again():
    clock = LoopClock()
    node = await Node(clock).start()
    tokens = await node.issue()
    node.subscribers.connect("v-1")
    first = await node.revoke(token=tokens.refresh_token)
    node.subscribers.confirm("v-1", 1)
    again = await node.revoke(token=tokens.refresh_token, wait=5.0)
    assert (again.cursor, again.connected, again.applied) == (first.cursor, 1, 1)


# --- The entry ----------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_entry_expires_after_every_token_it_hits():
    node = await a_node()
    tokens = await node.issue(access_token_ttl=60)
    await node.revoke(token=tokens.access_token)
    await node.revoke(token=tokens.refresh_token)
    await node.revoke(target=Target.SUBJECT, value="alice")
    await node.revoke(target=Target.TOKEN_ID, value="somewhere else")
    by_token, *others = await node.stores.log.read(0, 10)
    expire = claims_of(tokens.access_token)["exp"]
    assert (by_token.token_expire_time, by_token.expire_time) == (expire, expire + MAX_LEEWAY)
    for entry in others:
        assert entry.token_expire_time is None
        assert entry.expire_time == START + MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY == START + REMEMBER
        assert entry.revoke_time == START


@virtual_time
@pytest.mark.parametrize("skew", [-3600.0, 0.0, 3600.0])
async def test_entry_of_a_node_with_a_wrong_clock_has_the_same_lifetime(skew: float):
    node = await a_node()
    tokens = await node.issue()
    wrong = START + skew
    for command in (
        RevokeCommand(token=tokens.refresh_token),
        RevokeCommand(target=Target.SUBJECT, value="alice"),
        RevokeCommand(target=Target.CLIENT, value="web"),
        RevokeCommand(target=Target.TOKEN_ID, value="somewhere else"),
        RevokeCommand(target=Target.EVERYTHING),
    ):
        await node.revoker.revoke(Caller.system(), command, wrong)
    entries = await node.stores.log.read(0, 10)
    assert [entry.expire_time for entry in entries] == [max(START, wrong) + REMEMBER] * 5
    assert [entry.revoke_time for entry in entries] == [wrong] * 5


@virtual_time
async def test_audit_entry_has_target_and_reason_but_no_token():
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    for text in (tokens.access_token, tokens.refresh_token):
        await node.revoke(token=text, reason=RevocationReason.COMPROMISED, comment="seen in a log")
    by_id, by_session = node.audit.named("revoked")
    assert by_id == {
        "target": "TOKEN_ID",
        "value": tokens.token_id,
        "reason": "COMPROMISED",
        "comment": "seen in a log",
        "cursor": f"{node.replica.epoch}:1",
        "actor": "system:system",
        "outcome": "success",
    }
    assert (by_session["target"], by_session["value"]) == ("SESSION", tokens.session_id)
    assert tokens.refresh_token not in repr(RevokeCommand(token=tokens.refresh_token))


@virtual_time
@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("target", None, {}),
        ("token_id", {"target": Target.TOKEN_ID, "value": "x" * limits.MAX_TOKEN_ID}, None),
        ("token_id", None, {"target": Target.TOKEN_ID, "value": "x" * (limits.MAX_TOKEN_ID + 1)}),
        ("token_id", None, {"target": Target.TOKEN_ID}),
        ("session_id", None, {"target": Target.SESSION, "value": "x"}),
        ("session_id", None, {"target": Target.SESSION}),
        ("subject", {"target": Target.SUBJECT, "value": "x" * limits.MAX_SUBJECT}, None),
        ("subject", None, {"target": Target.SUBJECT, "value": "x" * (limits.MAX_SUBJECT + 1)}),
        ("subject", None, {"target": Target.SUBJECT}),
        ("client_id", {"target": Target.CLIENT, "value": "x" * limits.MAX_CLIENT_ID}, None),
        ("client_id", None, {"target": Target.CLIENT, "value": "x" * (limits.MAX_CLIENT_ID + 1)}),
        ("key_id", None, {"target": Target.KEY}),
        ("key_id", None, {"target": Target.KEY, "value": "x" * (limits.MAX_KEY_ID + 1)}),
        ("comment", {"token": "x", "comment": "c" * limits.MAX_COMMENT}, None),
        ("comment", None, {"token": "x", "comment": "c" * (limits.MAX_COMMENT + 1)}),
        ("wait.timeout", {"token": "x", "wait": limits.MAX_WAIT}, None),
        ("wait.timeout", None, {"token": "x", "wait": limits.MAX_WAIT + 0.1}),
        ("wait.timeout", None, {"token": "x", "wait": 0.0}),
        ("wait.timeout", None, {"token": "x", "wait": float("nan")}),
    ],
    ids=str,
)
async def test_each_limit_at_its_edge(field: str, good: dict[str, Any] | None, bad: dict[str, Any] | None):
    node = await a_node()
    if good is not None:
        await node.revoke(**good)
    if bad is not None:
        with pytest.raises(InvalidRequestError) as error:
            await node.revoke(**bad)
        assert [violation.field for violation in error.value.violations] == [field]
        assert (await node.stores.log.head()).sequence == 0


# --- Quotas --------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [Target.SUBJECT, Target.CLIENT, Target.TOKEN_ID])
async def test_caller_is_limited_in_names_revoked_per_minute(target: Target) -> None:
    node = await a_node(max_revocations=3)

    async def revoke(name: str, caller: str = "a") -> None:
        await node.revoker.revoke(
            replace(Caller.system(), identity=caller),
            RevokeCommand(target=target, value=name),
            node.clock.now(),
        )

    for number in range(3):
        await revoke(f"name-{number}")
    with pytest.raises(RateLimitedError) as caught:
        await revoke("name-3")
    assert caught.value.retry_after == pytest.approx(20.0)
    assert caught.value.metadata == {"bucket": "caller", "operation": "revoke_names", "rate": "3/1m"}
    assert "revoke a whole client or everything at once" in caught.value.message
    assert (await node.stores.log.head()).sequence == 3, "what is refused leaves nothing"
    await revoke("name-3", "b")  # another caller has its own
    node.clock.elapsed += 20.0
    await revoke("name-3")
    with pytest.raises(RateLimitedError):
        await revoke("name-4")


async def test_quota_never_refuses_existing_targets_or_everything() -> None:
    node = await a_node(max_revocations=1)
    tokens = [await node.issue() for _ in range(4)]
    await node.revoke(target=Target.SUBJECT, value="bob")
    with pytest.raises(RateLimitedError):
        await node.revoke(target=Target.SUBJECT, value="bob")
    await node.revoke(token=tokens[0].access_token)
    await node.revoke(token=tokens[1].refresh_token)
    await node.revoke(target=Target.SESSION, value=str(tokens[2].session_id))
    await node.revoke(target=Target.EVERYTHING)
    await node.revoke(token=tokens[3].access_token)
    await node.revoke(target=Target.KEY, value=header_of(tokens[3].access_token)["kid"])
    assert (await node.stores.log.head()).sequence == 7
