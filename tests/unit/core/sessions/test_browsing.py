"""Sessions are read, listed in pages and extended."""

from __future__ import annotations

import base64
from typing import Any
from uuid import UUID

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import START, ManualClock, virtual_time
from token_service.core import limits
from token_service.core.access.caller import Caller
from token_service.core.policies.policy import Policy
from token_service.core.sessions import browsing
from token_service.core.sessions.browsing import SessionPage
from token_service.core.sessions.store import SessionFilter
from token_service.errors import InvalidRequestError, SessionNotActiveError, SessionNotFoundError
from token_service.tokens.revocation import RevocationTarget


async def a_node(**options: Any) -> Node[ManualClock]:
    return await Node(ManualClock(), max_staleness=1e12, **options).start()


async def a_page(
    node: Node,
    value: str = "alice",
    by: SessionFilter = SessionFilter.SUBJECT,
    *,
    live_at: float | None = None,
    page_size: int = 0,
    page_token: str = "",
) -> SessionPage:
    return await node.sessions.list(
        Caller.system(), by, value, live_at=live_at, page_size=page_size, page_token=page_token
    )


def ids(page: SessionPage) -> list[str]:
    return [str(details.session.id) for details in page.sessions]


# --- Get --------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_session_is_found_active_or_ended():
    node = await a_node()
    tokens = await node.issue()
    assert (await node.session(tokens.session_id)).subject == "alice"
    assert str((await node.session(tokens.session_id.upper())).id) == tokens.session_id
    await node.revoke(target=RevocationTarget.SESSION, value=tokens.session_id)
    assert (await node.session(tokens.session_id)).revoke_time == START
    with pytest.raises(SessionNotFoundError):
        await node.session("3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57")


@virtual_time
@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "0" * 36,
        "3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57"[:-1],
        "3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57" + "0",
        "3f2b9c116f1c4b0e9f0e5d7a3f0a4a57",
        "{3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57}",
        "urn:uuid:3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57",
        "é" * 36,
    ],
)
async def test_session_id_must_be_a_uuid(text: str):
    node = await a_node()
    for call in (node.session(text), node.sessions.extend(Caller.system(), text, "web", None, START)):
        with pytest.raises(InvalidRequestError) as error:
            await call
        assert error.value.violations[0].field == "session_id"


# --- List -------------------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize("size", [1, 2, 3, 6, 7, 8])
async def test_pages_have_each_session_once_the_newest_first(size: int):
    node = await a_node()
    issued: list[tuple[float, UUID]] = []
    for number in range(7):
        node.clock.elapsed = number // 3  # some at the same moment
        tokens = await node.issue()
        await node.issue("bob")
        issued.append((node.clock.now(), UUID(tokens.session_id)))
    expected = [str(session_id) for _, session_id in sorted(issued, reverse=True)]
    found: list[str] = []
    token = ""
    for _ in range(-(-7 // size)):
        page = await a_page(node, page_size=size, page_token=token)
        assert 1 <= len(page.sessions) <= size
        found += ids(page)
        token = page.next_page_token
    assert token == ""
    assert found == expected


@virtual_time
async def test_inserts_and_deletes_between_pages_shift_no_rows():
    node = await a_node()
    issued = []
    for number in range(6):
        node.clock.elapsed = number
        issued.append((await node.issue()).session_id)
    first = await a_page(node, page_size=2)
    node.clock.elapsed = 10
    await node.issue()
    del node.stores.sessions._state.sessions[UUID(issued[4])]
    second = await a_page(node, page_size=2, page_token=first.next_page_token)
    third = await a_page(node, page_size=2, page_token=second.next_page_token)
    assert ids(first) + ids(second) + ids(third) == issued[::-1]


@virtual_time
async def test_a_page_has_a_default_size_and_a_largest_one():
    node = await a_node()
    for _ in range(limits.MAX_PAGE + 1):
        await node.issue()
    assert len((await a_page(node)).sessions) == limits.DEFAULT_PAGE
    page = await a_page(node, page_size=limits.MAX_PAGE)
    assert len(page.sessions) == limits.MAX_PAGE
    assert page.next_page_token
    for size in (-1, limits.MAX_PAGE + 1):
        with pytest.raises(InvalidRequestError) as error:
            await a_page(node, page_size=size)
        assert error.value.violations[0].field == "page_size"


@virtual_time
async def test_lists_are_by_subject_client_or_device():
    node = await a_node()
    one = await node.issue("alice", "web", device_id="phone")
    two = await node.issue("alice", "app")
    three = await node.issue("bob", "app", device_id="phone")
    assert set(ids(await a_page(node, "alice"))) == {one.session_id, two.session_id}
    assert set(ids(await a_page(node, "app", SessionFilter.CLIENT))) == {two.session_id, three.session_id}
    assert set(ids(await a_page(node, "phone", SessionFilter.DEVICE))) == {one.session_id, three.session_id}
    assert ids(await a_page(node, "nobody")) == []


@virtual_time
async def test_list_of_active_sessions_omits_ended_ones():
    node = await a_node(policy=Policy(idle_timeout=100))
    old = await node.issue()
    node.clock.elapsed = 50
    revoked, alive = await node.issue(), await node.issue()
    await node.revoke(token=revoked.refresh_token)
    node.clock.elapsed = 100
    assert ids(await a_page(node, live_at=node.clock.now())) == [alive.session_id]
    assert len((await a_page(node)).sessions) == 3
    await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    assert ids(await a_page(node, live_at=node.clock.now())) == []
    assert old.session_id in ids(await a_page(node))


@virtual_time
async def test_page_of_live_sessions_examines_few_ended_ones(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(browsing, "MAX_SESSIONS_LISTED", 3)
    node = await a_node()
    issued = []
    for _ in range(8):
        issued.append((await node.issue()).session_id)
        node.clock.elapsed += 1
    for each in issued[2:7]:
        await node.revoke(target=RevocationTarget.SESSION, value=each)
    pages, token = [], ""
    while True:
        page = await a_page(node, live_at=node.clock.now(), page_token=token)
        pages.append(ids(page))
        token = page.next_page_token
        if not token:
            break
    assert pages == [[issued[7]], [], [issued[1], issued[0]]]
    assert len(ids(await a_page(node))) == 8, "ended ones too: every row is on the page"


@virtual_time
@pytest.mark.parametrize("by", SessionFilter)
async def test_a_list_needs_a_value(by: SessionFilter):
    node = await a_node()
    for value in ("", "x" * 257, "a\nb"):
        with pytest.raises(InvalidRequestError) as error:
            await a_page(node, value, by)
        assert error.value.violations[0].field == by.value


def position(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


@virtual_time
@pytest.mark.parametrize(
    "token",
    [
        "x",
        "é",
        "=" * 32,
        position(b"x" * 23),
        position(b"x" * 25),
        position(b"\xff" * 24),
        position(b"\x7f" + b"\xff" * 23),
        position((10**18).to_bytes(8) + b"x" * 16),
        "A" * 10_000,
    ],
    ids=lambda token: token[:12],
)
async def test_invented_page_token_is_a_bad_request(token: str):
    node = await a_node()
    with pytest.raises(InvalidRequestError) as error:
        await a_page(node, page_token=token)
    assert error.value.violations[0].field == "page_token"


# --- Extend -----------------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize(
    ("asked", "gets"),
    [(None, 100), (1, 20), (20, 20), (50.5, 50.5), (100, 100), (101, 100), (1e18, 100), (float("inf"), 100)],
)
async def test_session_is_extended_up_to_the_policy_limit(asked: float | None, gets: float):
    node = await a_node(policy=Policy(idle_timeout=100, refresh_token_ttl=1000))
    tokens = await node.issue()
    node.clock.elapsed = 80
    session = await node.sessions.extend(Caller.system(), tokens.session_id, "web", asked, node.clock.now())
    assert session.idle_expire_time == START + 80 + gets
    assert session.last_use_time == START + 80
    assert session.absolute_expire_time == START + 1000


@virtual_time
async def test_no_session_is_extended_beyond_its_absolute_end():
    node = await a_node(policy=Policy(idle_timeout=100, refresh_token_ttl=150))
    tokens = await node.issue()
    node.clock.elapsed = 90
    session = await node.sessions.extend(Caller.system(), tokens.session_id, "web", None, node.clock.now())
    assert session.idle_expire_time == START + 150


@virtual_time
@pytest.mark.parametrize("end", ["idle", "session", "subject", "client", "everything"])
async def test_ended_session_is_not_extended(end: str):
    node = await a_node(policy=Policy(idle_timeout=100))
    tokens = await node.issue()
    if end == "idle":
        node.clock.elapsed = 100
    else:
        target = {
            "session": (RevocationTarget.SESSION, tokens.session_id),
            "subject": (RevocationTarget.SUBJECT, "alice"),
            "client": (RevocationTarget.CLIENT, "web"),
            "everything": (RevocationTarget.EVERYTHING, ""),
        }[end]
        await node.revoke(target=target[0], value=target[1])
    with pytest.raises(SessionNotActiveError):
        await node.sessions.extend(Caller.system(), tokens.session_id, "web", None, node.clock.now())
    with pytest.raises(SessionNotFoundError):
        await node.sessions.extend(
            Caller.system(), "3f2b9c11-6f1c-4b0e-9f0e-5d7a3f0a4a57", "web", None, node.clock.now()
        )


@virtual_time
@pytest.mark.parametrize("span", [0, 0.99, -1, float("nan"), float("-inf")])
async def test_an_extension_is_at_least_a_second(span: float):
    node = await a_node()
    tokens = await node.issue()
    with pytest.raises(InvalidRequestError) as error:
        await node.sessions.extend(Caller.system(), tokens.session_id, "web", span, START)
    assert error.value.violations[0].field == "idle_timeout"
