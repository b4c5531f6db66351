"""The contract of `AuditStore`, and of the changes that write their audit events themselves."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.contract.builders import NOW, a_draft, a_session
from token_service.core.clients.client import Client
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Outcome, Target
from token_service.core.events.store import AuditFilter, AuditPosition, ChainExtent
from token_service.core.events.verification import verify
from token_service.core.revocation.drafts import event_of
from token_service.core.sessions.store import Amendment
from token_service.errors import ConfigurationError
from token_service.stores.sql.engine.prepared import Prepared
from token_service.tokens.revocation import RevocationTarget

DAY = 86_400.0
LOGIN = Actor("caller", "spiffe://example.org/login", proof="certificate")
OPERATOR = Actor("operator", "root@db-1")
ALICE = Target("token", "t-1", "alice", "s-1", "web")


def an_event(number: int = 0, **changes) -> AuditEvent:
    values = {
        "action": Action.TOKEN_ISSUED,
        "actor": LOGIN,
        "target": ALICE,
        "origin": Origin("192.0.2.1", "Firefox"),
        "fields": {"number": number},
        "time": NOW + number,
        **changes,
    }
    return AuditEvent(**values)


async def positions(store, **where) -> list[tuple[int, str]]:
    rows = await store.list(AuditFilter(**where), limit=100, after=None)
    return [(row.position, row.action) for row in rows]


async def test_row_has_every_part_of_its_event(stores):
    await stores.audit.append([an_event(7, reason="why", comment="so", outcome=Outcome.DENIED)])
    (row,) = await stores.audit.list(AuditFilter(), limit=2, after=None)
    assert (row.position, row.time, row.action, row.category) == (
        1,
        (NOW + 7) * 1e6,
        "token.issued",
        "routine",
    )
    assert (row.actor_kind, row.actor_name, row.actor_proof) == ("caller", LOGIN.name, "certificate")
    assert (row.target_kind, row.target, row.subject, row.session_id, row.client_id) == (
        *("token", "t-1", "alice"),
        *("s-1", "web"),
    )
    assert (row.outcome, row.reason, row.comment) == ("denied", "why", "so")
    assert (row.ip_address, row.user_agent) == ("192.0.2.1", "Firefox")
    assert json.loads(row.fields) == {"number": 7}
    assert (await verify(stores.audit)).is_intact


async def test_texts_that_a_database_refuses_are_stored_with_a_replacement(stores):
    await stores.audit.append([an_event(comment="a\0b\ud800c", fields={"text": "a\0b"})])
    (row,) = await stores.audit.list(AuditFilter(), limit=2, after=None)
    assert (row.comment, json.loads(row.fields)) == ("a\ufffdb?c", {"text": "a\0b"})
    assert (await verify(stores.audit)).is_intact


async def test_token_in_the_wrong_field_is_stored_as_its_hash(stores):
    token = "rt_" + "A" * 60
    await stores.audit.append([
        an_event(target=Target("subject", token, token), comment=f"see {token}", fields={"scopes": [token]})
    ])  # fmt: skip
    (row,) = await stores.audit.list(AuditFilter(), limit=2, after=None)
    assert "AAAA" not in repr(row)
    assert row.comment.startswith("see [token sha256:")
    assert json.loads(row.fields)["scopes"] == [row.subject]
    assert (await verify(stores.audit)).is_intact


async def test_list_filters_and_pages_newest_first(stores):
    events = [an_event(number) for number in range(3)]
    events.append(an_event(3, actor=OPERATOR, action=Action.LOG_RENEWED, target=Target("log")))
    events.append(an_event(4, target=Target("subject", "bob", "bob")))
    events.append(an_event(5, target=Target("key", "k-1"), action=Action.SIGNING_KEY_RETIRED))
    await stores.audit.append(events)
    audit = stores.audit
    assert [number for number, _ in await positions(audit)] == [6, 5, 4, 3, 2, 1]
    assert await positions(audit, actor=OPERATOR.name) == [(4, "log.renewed")]
    assert await positions(audit, subject="bob") == [(5, "token.issued")]
    assert await positions(audit, subject="alice", since=NOW + 1, until=NOW + 2) == [(2, "token.issued")]
    assert len(await positions(audit, session_id="s-1")) == len(await positions(audit, client_id="web")) == 3
    assert await positions(audit, target_kind="key", target_id="k-1") == [(6, "signing_key.retired")]
    assert await positions(audit, actions=("log.renewed", "signing_key.retired")) == [
        (6, "signing_key.retired"),
        (4, "log.renewed"),
    ]
    first = await audit.list(AuditFilter(), limit=4, after=None)
    after = AuditPosition(first[-1].time, first[-1].chain_id, first[-1].position)
    assert [row.position for row in await audit.list(AuditFilter(), limit=4, after=after)] == [2, 1]


async def test_extents_span_the_events_of_a_time_range_in_each_chain(pair):
    one, other = pair
    await one.audit.append([an_event(number) for number in (1, 5, 2, 9)])
    if one is not other:
        await other.audit.append([an_event(2)])
    second, both = 1_000_000, one is not other
    start = round(NOW) * second
    (row, *_) = await one.audit.list(AuditFilter(until=NOW + 1.5), limit=1, after=None)
    found = await other.audit.extents(start + second, start + 3 * second)
    assert [each for each in found if each.chain_id == row.chain_id] == [ChainExtent(row.chain_id, 1, 3, 2)]
    assert [each.events for each in found if each.chain_id != row.chain_id] == [1] * both
    assert [each.chain_id for each in found] == sorted(each.chain_id for each in found)
    assert await other.audit.extents(start + 2 * second, start + 2 * second) == []


async def test_histogram_counts_by_action_and_interval(stores):
    events = [an_event(number) for number in (0, 1, 2, 3)]
    events.append(an_event(2, action=Action.LOG_RENEWED, target=Target("log")))
    await stores.audit.append(events)
    start, width = round(NOW) * 1_000_000, 2_000_000
    first = start // width
    actions = ("token.issued", "log.renewed", "revoked")
    found = await stores.audit.histogram(actions, start, start + 3_000_000, width)
    assert start % width == 0
    assert found == {
        ("token.issued", first): 2,
        ("token.issued", first + 1): 1,
        ("log.renewed", first + 1): 1,
    }
    assert await stores.audit.histogram(("revoked",), start, start + 3_000_000, width) == {}


async def test_revocation_and_its_event_are_one_change(stores):
    draft = a_draft(RevocationTarget.SUBJECT, "alice", comment="stolen")
    draft = replace(draft, event=event_of(draft, LOGIN))
    head, _ = await stores.log.append([draft])
    (row,) = await stores.audit.list(AuditFilter(subject="alice"), limit=2, after=None)
    assert (row.action, row.target_kind, row.target, row.comment) == ("revoked", "subject", "alice", "stolen")
    assert json.loads(row.fields) == {"cursor": f"{head.epoch}:{head.sequence}"}


async def test_revocation_without_effect_has_no_event(stores):
    draft = a_draft(RevocationTarget.KEY, "unknown")
    await stores.log.append([replace(draft, event=event_of(draft, LOGIN))])
    assert await positions(stores.audit) == []


async def test_change_of_keys_that_lost_its_race_has_no_event(stores):
    event = an_event(action=Action.SIGNING_KEY_PREPARED, target=Target("key", "k"))
    assert not await stores.keys.save(7, [], [], events=[event])
    assert await positions(stores.audit) == []
    assert await stores.keys.save(0, [], [], events=[event])
    assert await positions(stores.audit) == [(1, "signing_key.prepared")]


async def test_client_and_its_event_are_one_change(stores):
    event = an_event(action=Action.CLIENT_CREATED, target=Target("client", "app", client_id="app"))
    assert await stores.clients.create(Client(client_id="app", create_time=NOW, update_time=NOW), [event])
    assert not await stores.clients.create(Client(client_id="app", create_time=NOW, update_time=NOW), [event])
    assert await positions(stores.audit, client_id="app") == [(1, "client.created")]


async def test_session_update_and_its_event_are_one_change(stores):
    session, _ = await stores.sessions.create(a_session(scopes=("read", "write")), None)
    event = an_event(action=Action.SESSION_UPDATED, target=Target("session_update", session_id="s-1"))
    change = Amendment(
        session_id=session.id, now=NOW, expected_scopes=("write",), scopes=("read",), custom_claims=None
    )
    assert await stores.sessions.amend(change, [event]) is None
    assert await positions(stores.audit) == []
    amended = await stores.sessions.amend(replace(change, expected_scopes=("read", "write")), [event])
    assert amended.scopes == ("read",)
    assert await positions(stores.audit, session_id="s-1") == [(1, "session.updated")]


async def test_renewal_of_the_log_and_its_event_are_one_change(stores):
    head = await stores.log.head()
    event = an_event(action=Action.LOG_RENEWED, target=Target("log"), actor=OPERATOR, fields={})
    draft = replace(a_draft(RevocationTarget.EVERYTHING, ""), event=event)
    assert await stores.log.renew(draft, replaces="another", epoch="new", sequence=50) is None
    assert await positions(stores.audit) == []
    await stores.log.renew(draft, replaces=head.epoch, epoch="new", sequence=50)
    (row,) = await stores.audit.list(AuditFilter(), limit=2, after=None)
    assert (row.actor_kind, json.loads(row.fields)) == ("operator", {"cursor": "new:50"})


async def test_checkpoints_name_heads_that_moved(stores):
    audit = stores.audit
    first = await audit.checkpoint(NOW)
    assert (first.number, first.full, first.heads) == (1, True, {})
    assert await audit.checkpoint(NOW) is None
    await audit.append([an_event(1), an_event(2)])
    second = await audit.checkpoint(NOW)
    (head,) = second.heads.values()
    assert (second.number, second.full, head.position, second.previous_mac) == (2, False, 2, first.mac)
    assert await audit.checkpoint(NOW) is None
    third = await audit.checkpoint(NOW, full=True)
    assert (third.full, third.heads) == (True, second.heads)
    assert list(await audit.checkpoints(1, 10)) == [second, third]
    result = await verify(audit)
    assert (result.events, result.checkpoints, result.findings) == (2, 3, [])


async def test_retention_deletes_beginnings_of_chains_and_the_rest_still_verifies(stores):
    audit = stores.audit
    await audit.append([an_event(number) for number in range(5)])
    await audit.checkpoint(NOW)
    assert await audit.prune(NOW + 3, NOW - DAY, NOW + 9, 2) == 2
    assert await audit.prune(NOW + 3, NOW - DAY, NOW + 9, 2) == 1
    assert await audit.prune(NOW + 3, NOW - DAY, NOW + 9, 2) == 0
    assert [number for number, _ in await positions(audit)] == [5, 4]
    result = await verify(audit)
    assert (result.events, result.findings) == (2, [])
    await audit.append([an_event(5)])
    assert (await verify(audit)).is_intact


async def test_retention_deletes_a_whole_chain_and_old_checkpoints(pair):
    one, other = pair
    await one.audit.append([an_event(0)])
    exported = await one.audit.checkpoint(NOW, full=True)
    if one is not other:
        await other.audit.append([an_event(9)])
    assert await other.audit.prune(NOW + 5, NOW - DAY, NOW + 9, 10) == 1
    result = await verify(other.audit, exported)
    assert result.findings == []
    assert result.events == (one is not other)
    await other.audit.checkpoint(NOW + 2 * DAY, full=True)
    await other.audit.prune(NOW, NOW + DAY, NOW + 2 * DAY, 10)
    assert [each.number for each in await other.audit.checkpoints(0, 10)] == [2, 3]
    assert (await verify(other.audit)).is_intact
    await one.audit.append([an_event(10)])
    assert (await verify(one.audit)).is_intact


async def test_erasure_empties_personal_fields_and_keeps_the_chain(stores):
    audit = stores.audit
    await audit.append([
        an_event(0, comment="a remark about alice"),
        an_event(1, target=Target("session", "s-1", session_id="s-1"), comment="alice called"),
        an_event(2, target=Target("subject", "bob", "bob")),
    ])  # fmt: skip
    assert await audit.erase(OPERATOR, "alice") == 2
    assert await audit.erase(OPERATOR, "alice") == 0
    rows = await audit.list(AuditFilter(), limit=9, after=None)
    assert "alice" not in repr(rows)
    assert {row.position: row.is_erased for row in rows} == {1: True, 2: True, 3: False, 4: False}
    assert {row.session_id for row in rows if row.is_erased} == {"s-1"}
    recorded = next(row for row in rows if row.action == "audit.erased")
    assert (json.loads(recorded.fields), recorded.actor_name) == ({"rows": 2}, OPERATOR.name)
    result = await verify(audit)
    assert (result.erased, result.findings) == (2, [])


async def test_outbox_has_the_changes_but_not_the_routine(sql_backend):
    async with sql_backend.open() as stores:
        renewed = an_event(1, action=Action.LOG_RENEWED, target=Target("log"))
        await stores.audit.append([an_event(0), renewed])
        async with stores._database.engine.connect() as connection:
            sql = "SELECT type, payload FROM outbox"
            ((type_, payload),) = (await connection.exec_driver_sql(sql)).all()
        assert (type_, json.loads(payload)["position"]) == ("log.renewed", 2)


async def test_concurrent_writers_leave_whole_chains(pair):
    one, other = pair

    async def revoke(stores, number):
        draft = a_draft(RevocationTarget.TOKEN_ID, f"t-{number}")
        await stores.log.append([replace(draft, event=event_of(draft, LOGIN))])

    async def keep(stores):
        await stores.audit.checkpoint(NOW)

    await asyncio.gather(
        *(revoke(stores, number) for number in range(30) for stores in (one, other)),
        *(stores.audit.append([an_event(number)]) for number in range(10) for stores in (one, other)),
        *(keep(stores) for _ in range(5) for stores in (one, other)),
    )
    result = await verify(one.audit)
    assert (result.events, result.findings) == (80, [])
    assert result.chains == (1 if one is other else 2)


async def test_without_a_key_no_change_with_an_event_succeeds(sql_backend):
    async with sql_backend.open(audit_keys=None) as stores:
        draft = a_draft(RevocationTarget.SUBJECT, "alice")
        with pytest.raises(ConfigurationError, match="no audit key is configured"):
            await stores.keys.save(0, [], [], events=[an_event()])
        head = await stores.log.head()
        assert head.key_revision == 0
        with pytest.raises(ConfigurationError, match="no audit key is configured"):
            await stores.log.append([replace(draft, event=event_of(draft, LOGIN))])
        assert (await stores.log.head()).sequence == 0


async def test_append_after_a_rollback_continues_at_the_last_committed_row(sql_backend):
    async with sql_backend.open() as stores:
        await stores.audit.append([an_event(0)])

        async def append_and_fail(connection):
            await stores.audit._chain.append(connection, [an_event(1, action=Action.REVOKED)])
            raise KeyError

        for _ in range(2):
            with pytest.raises(KeyError):
                await stores._database.write(append_and_fail)
        await stores.audit.append([an_event(2), an_event(3)])
        assert [number for number, _ in await positions(stores.audit)] == [3, 2, 1]
        result = await verify(stores.audit)
        assert (result.events, result.findings) == (3, [])
        assert not (await stores.events.head()).waiting


async def test_outbox_rows_have_the_order_of_the_chain(sql_backend):
    async with sql_backend.open() as stores:
        drafts = [a_draft(RevocationTarget.TOKEN_ID, f"t-{number}") for number in range(40)]
        await stores.log.append([replace(draft, event=event_of(draft, LOGIN)) for draft in drafts])
        async with stores._database.engine.connect() as connection:
            sql = "SELECT payload FROM outbox ORDER BY id"
            payloads = (await connection.exec_driver_sql(sql)).scalars().all()
        assert [json.loads(payload)["position"] for payload in payloads] == list(range(1, 41))


async def test_events_of_an_append_share_statements(sql_backend, monkeypatch):
    async with sql_backend.open() as stores:

        async def append(count: int, *, with_events: bool) -> int:
            drafts = [a_draft(RevocationTarget.SUBJECT, f"s-{number}") for number in range(count)]
            if with_events:
                drafts = [replace(draft, event=event_of(draft, LOGIN)) for draft in drafts]
            before = len(executed)
            await stores.log.append(drafts)
            return len(executed) - before

        executed: list[object] = []

        def counted(execute):
            def begin(*args, **options):
                executed.append(args)
                return execute(*args, **options)

            return begin

        monkeypatch.setattr(AsyncConnection, "execute", counted(AsyncConnection.execute))
        monkeypatch.setattr(Prepared, "run_in_order", counted(Prepared.run_in_order))
        await append(1, with_events=True)  # reads the end of the chain
        without = await append(1, with_events=False)
        more = {await append(count, with_events=True) - without for count in (1, 30)}
        assert more == {3 if sql_backend.name == "sqlite" else 1}
