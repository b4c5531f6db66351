"""The contract of session stores (`token_service.bff.store`)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from token_service.bff import Logout, SessionStore, StoredSession

NOW = 1_800_000_000.25
Pair = tuple[SessionStore, SessionStore]


def session(key: str = "key", **changes: Any) -> StoredSession:
    made = StoredSession(
        key=key,
        subject="alice",
        sid="sid",
        payload="sealed " + "x" * 9000 + " é€",
        expire_time=NOW + 1000.125,
        idle_expire_time=NOW + 100.5,
    )
    return replace(made, **changes)


def logout(token_id: str = "jti", **meant: str) -> Logout:
    return Logout(token_id, NOW + 120, **meant)


async def keys(store: SessionStore, *names: str) -> list[str]:
    return [name for name in names if await store.load(name, NOW) is not None]


async def test_session_is_loaded_as_it_was_created(pair: Pair) -> None:
    one, other = pair
    created = session()
    await one.create(created, NOW, None)
    assert await other.load("key", NOW) == created
    assert await other.load("other", NOW) is None


async def test_session_ends_at_its_times_exactly(store: SessionStore) -> None:
    await store.create(session(), NOW, None)
    assert await store.load("key", NOW + 100.25) is not None
    assert await store.load("key", NOW + 100.5) is None
    await store.touch("key", NOW + 5000)
    assert await store.load("key", NOW + 1000) is not None
    assert await store.load("key", NOW + 1000.125) is None


async def test_touch_extends_and_never_shortens(pair: Pair) -> None:
    one, other = pair
    await one.create(session(), NOW, None)
    await one.touch("key", NOW + 200)
    await other.touch("key", NOW + 150)
    assert await other.load("key", NOW) == session(idle_expire_time=NOW + 200)
    await one.touch("other", NOW + 200)
    assert await one.load("other", NOW) is None


async def test_replace_changes_the_version_that_it_read(pair: Pair) -> None:
    one, other = pair
    await one.create(session(), NOW, None)
    assert await one.replace("key", 1, "new")
    assert not await other.replace("key", 1, "late")
    assert await other.load("key", NOW) == session(payload="new", version=2)
    assert await other.replace("key", 2, "newer")
    assert not await one.replace("other", 1, "new")
    assert await one.load("other", NOW) is None


async def test_replace_succeeds_once_of_many(pair: Pair) -> None:
    await pair[0].create(session(), NOW, None)
    done = await asyncio.gather(*(pair[number % 2].replace("key", 1, f"{number}") for number in range(10)))
    assert done.count(True) == 1
    loaded = await pair[0].load("key", NOW)
    assert loaded is not None
    assert (loaded.version, loaded.payload) == (2, str(done.index(True)))


async def test_lease_has_one_holder_until_it_ends(pair: Pair) -> None:
    one, other = pair
    await one.create(session(), NOW, None)
    assert await one.lease("key", "a", NOW, NOW + 10) == session()
    assert await other.lease("key", "b", NOW + 9.75, NOW + 20) is None
    assert await other.load("key", NOW) == session(), "a lease must not block reads"
    assert await one.lease("key", "a", NOW + 5, NOW + 15) == session(), "the holder extends its lease"
    assert await other.lease("key", "b", NOW + 14, NOW + 20) is None
    assert await other.lease("key", "b", NOW + 15, NOW + 20) == session()
    await one.release("key", "a")
    assert await one.lease("key", "a", NOW + 16, NOW + 20) is None, "only the holder releases"
    await other.release("key", "b")
    assert await one.lease("key", "a", NOW + 16, NOW + 20) == session()


async def test_lease_returns_the_session_as_it_is_now(pair: Pair) -> None:
    one, other = pair
    await one.create(session(), NOW, None)
    await other.replace("key", 1, "new")
    assert await one.lease("key", "a", NOW, NOW + 10) == session(payload="new", version=2)


async def test_lease_needs_a_live_session(store: SessionStore) -> None:
    assert await store.lease("key", "a", NOW, NOW + 10) is None
    assert await store.load("key", NOW) is None
    await store.create(session(), NOW, None)
    assert await store.lease("key", "a", NOW + 100.5, NOW + 200) is None


async def test_lease_is_given_once_of_many(pair: Pair) -> None:
    await pair[0].create(session(), NOW, None)
    found = await asyncio.gather(
        *(pair[number % 2].lease("key", f"{number}", NOW, NOW + 10) for number in range(10))
    )
    assert len([each for each in found if each is not None]) == 1


async def test_delete_tells_whether_there_was_one(pair: Pair) -> None:
    one, other = pair
    await one.create(session(), NOW, None)
    assert await other.delete("key")
    assert not await one.delete("key")
    assert await one.load("key", NOW) is None
    assert not await one.replace("key", 1, "new"), "a renewal that ends later does not bring it back"
    assert await one.load("key", NOW) is None


async def test_delete_of_a_version_spares_a_newer_one(store: SessionStore) -> None:
    await store.create(session(), NOW, None)
    await store.replace("key", 1, "new")
    assert not await store.delete("key", 1)
    assert await store.delete("key", 2)


async def test_logout_of_a_sid_ends_its_sessions_alone(pair: Pair) -> None:
    one, other = pair
    await one.create(session("a"), NOW, None)
    await one.create(session("b"), NOW, None)
    await one.create(session("c", sid="sid-2"), NOW, None)
    await one.create(session("d", sid=""), NOW, None)
    assert await other.log_out(logout(sid="sid"), NOW) == 2
    assert await keys(one, "a", "b", "c", "d") == ["c", "d"]


async def test_logout_of_a_subject_ends_all_its_sessions(pair: Pair) -> None:
    one, other = pair
    await one.create(session("a"), NOW, None)
    await one.create(session("b", sid=""), NOW, None)
    await one.create(session("c", subject="bob"), NOW, None)
    assert await other.log_out(logout(subject="alice"), NOW) == 2
    assert await keys(one, "a", "b", "c") == ["c"]


async def test_logout_of_both_needs_both(store: SessionStore) -> None:
    await store.create(session("a"), NOW, None)
    await store.create(session("b", subject="bob"), NOW, None)
    await store.create(session("c", sid="sid-2"), NOW, None)
    assert await store.log_out(logout(subject="alice", sid="sid"), NOW) == 1
    assert await keys(store, "a", "b", "c") == ["b", "c"]


async def test_logout_token_counts_once(pair: Pair) -> None:
    one, other = pair
    assert await one.log_out(logout(subject="alice"), NOW) == 0
    await one.create(session(), NOW, None)
    assert await other.log_out(logout(subject="alice"), NOW + 1) is None
    assert await keys(one, "key") == ["key"]
    counts = await asyncio.gather(
        *(pair[number % 2].log_out(logout("other", sid="sid"), NOW) for number in range(6))
    )
    assert sorted(counts, key=str) == [1, None, None, None, None, None]


def test_logout_without_subject_and_sid_is_refused() -> None:
    with pytest.raises(ValueError, match="subject or a sid"):
        logout()


async def test_logout_of_unknown_sessions_does_nothing(store: SessionStore) -> None:
    await store.create(session(), NOW, None)
    assert await store.log_out(logout("a", sid="other"), NOW) == 0
    assert await store.log_out(logout("b", subject="other"), NOW) == 0
    assert await keys(store, "key") == ["key"]


async def test_name_is_used_once(pair: Pair) -> None:
    one, other = pair
    assert await one.use_once("name", NOW + 60, NOW)
    assert not await other.use_once("name", NOW + 60, NOW + 1)
    assert await other.use_once("other", NOW + 60, NOW)
    done = await asyncio.gather(*(pair[n % 2].use_once("many", NOW + 60, NOW) for n in range(10)))
    assert done.count(True) == 1


async def test_limit_of_a_user_ends_the_oldest_sessions(pair: Pair) -> None:
    one, other = pair
    await one.create(session("bob", subject="bob"), NOW, 1)
    for number in range(4):
        await one.create(session(f"{number}", expire_time=NOW + 500 + number), NOW, 2)
    assert await keys(other, "bob", "0", "1", "2", "3") == ["bob", "2", "3"]


async def test_dead_sessions_do_not_count_for_the_limit(store: SessionStore) -> None:
    await store.create(session("live", expire_time=NOW + 500), NOW, None)
    await store.create(session("idle", idle_expire_time=NOW + 1), NOW, None)
    await store.create(session("new", expire_time=NOW + 600), NOW + 2, 2)
    assert await keys(store, "live", "new") == ["live", "new"]
    assert await store.load("idle", NOW + 2) is None


async def test_no_limit_keeps_all_sessions(store: SessionStore) -> None:
    for number in range(5):
        await store.create(session(f"{number}"), NOW, None)
    assert len(await keys(store, "0", "1", "2", "3", "4")) == 5
