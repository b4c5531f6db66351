"""Superseded refresh tokens after their grace period: race or theft."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node
from tests.unit.core.virtual_time import ManualClock, virtual_time
from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.events.store import AuditFilter
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.issuing.reuse import MAX_RACES
from token_service.core.policies.policy import Policy, ReuseResponse
from token_service.errors import (
    RefreshRaceError,
    RefreshTokenReusedError,
    SessionRevokedError,
    WrongDeviceError,
)

HERE = Origin("192.0.2.1", "Firefox/120")
GRACE, WINDOW = 10, 30


async def a_node(**policy: Any) -> Node[ManualClock]:
    settings = {"grace_period": GRACE, "refresh_race_window": WINDOW, **policy}
    return await Node(ManualClock(), max_staleness=1e12, policy=Policy(**settings)).start()


async def superseded(
    node: Node[ManualClock], origin: Origin = HERE, *, ago: float = GRACE, **issue: Any
) -> tuple[IssuedTokens, IssuedTokens]:
    """Return the tokens before and after a refresh `ago` seconds before now."""
    device = {"device_id": issue["device_id"]} if "device_id" in issue else {}
    first = await node.issue(client_context=origin, **issue)
    second = await node.refresh(first.refresh_token, client_context=origin, **device)
    node.clock.elapsed += ago
    return first, second


async def error_of(
    node: Node[ManualClock], tokens: IssuedTokens, origin: Origin = HERE, **command: Any
) -> type:
    with pytest.raises((RefreshRaceError, RefreshTokenReusedError, WrongDeviceError)) as caught:
        await node.refresh(tokens.refresh_token, client_context=origin, **command)
    return caught.type


@virtual_time
async def test_race_gets_no_token_and_its_session_goes_on() -> None:
    node = await a_node()
    first, second = await superseded(node)
    assert await error_of(node, first) is RefreshRaceError
    third = await node.refresh(second.refresh_token, client_context=HERE)
    assert third.session_id == first.session_id
    assert node.audit.named("refresh_token.reused") == []
    (event,) = node.audit.named("refresh_token.raced")
    assert (
        event["session_id"],
        event["presented_generation"],
        event["current_generation"],
        event["outcome"],
    ) == (*(first.session_id, 0, 1, "denied"),)
    rows = await node.stores.audit.list(AuditFilter(actions=("refresh_token.raced",)), limit=2, after=None)
    assert len(rows) == 1


@virtual_time
async def test_older_token_of_the_family_can_race_too() -> None:
    node = await a_node()
    first, second = await superseded(node, ago=600)
    await node.refresh(second.refresh_token, client_context=HERE)
    node.clock.elapsed += GRACE
    assert await error_of(node, first) is RefreshRaceError


@pytest.mark.parametrize(
    "origin",
    [
        NO_ORIGIN,
        Origin("192.0.2.2", "Firefox/120"),
        Origin("192.0.2.1", "Firefox/121"),
        Origin("192.0.2.1", ""),
        Origin("", "Firefox/120"),
    ],
)
@virtual_time
async def test_use_from_another_or_no_origin_is_theft(origin: Origin) -> None:
    node = await a_node()
    first, second = await superseded(node)
    assert await error_of(node, first, origin) is RefreshTokenReusedError
    with pytest.raises(SessionRevokedError):
        await node.refresh(second.refresh_token, client_context=HERE)


@pytest.mark.parametrize("lawful", [NO_ORIGIN, Origin("192.0.2.1", ""), Origin("", "Firefox/120")])
@virtual_time
async def test_session_whose_origin_is_not_known_has_no_races(lawful: Origin) -> None:
    node = await a_node()
    for origin in (lawful, HERE):
        first, _ = await superseded(node, lawful)
        assert await error_of(node, first, origin) is RefreshTokenReusedError


@virtual_time
async def test_address_of_the_same_ipv6_network_is_the_same_network() -> None:
    node = await a_node()
    first, _ = await superseded(node, Origin("2001:db8::1", "agent"))
    assert await error_of(node, first, Origin("2001:db8::2", "agent")) is RefreshRaceError
    assert await error_of(node, first, Origin("2001:db8:0:1::2", "agent")) is RefreshTokenReusedError


@pytest.mark.parametrize(
    ("ago", "expected"),
    [
        (GRACE, RefreshRaceError),
        (GRACE + WINDOW - 0.001, RefreshRaceError),
        (GRACE + WINDOW, RefreshTokenReusedError),
    ],
)
@virtual_time
async def test_window_follows_the_grace_period(ago: float, expected: type) -> None:
    node = await a_node()
    first, _ = await superseded(node, ago=ago)
    assert await error_of(node, first) is expected


@virtual_time
async def test_without_a_window_every_reuse_is_theft() -> None:
    assert Policy().refresh_race_window == 0
    node = await a_node(refresh_race_window=0)
    first, _ = await superseded(node)
    assert await error_of(node, first) is RefreshTokenReusedError


@virtual_time
async def test_origin_is_compared_with_the_last_lawful_use() -> None:
    """After a thief has refreshed from elsewhere, the owner's old token reveals the theft."""
    node = await a_node()
    first = await node.issue(client_context=HERE)
    await node.refresh(first.refresh_token, client_context=Origin("203.0.113.9", "curl"))
    node.clock.elapsed += GRACE
    assert await error_of(node, first) is RefreshTokenReusedError


@virtual_time
async def test_wrong_device_is_no_race() -> None:
    node = await a_node()
    first, _ = await superseded(node, device_id="phone")
    assert await error_of(node, first, device_id="other") is WrongDeviceError
    assert await error_of(node, first, device_id="phone") is RefreshRaceError


@virtual_time
async def test_race_after_the_last_one_is_theft() -> None:
    node = await a_node(reuse_response=ReuseResponse.SUBJECT)
    first, second = await superseded(node)
    for _ in range(MAX_RACES):
        assert await error_of(node, first) is RefreshRaceError
    assert await error_of(node, first) is RefreshTokenReusedError
    with pytest.raises(SessionRevokedError):
        await node.refresh(second.refresh_token, client_context=HERE)
    assert (await node.log.head()).sequence == 2  # the session and its subject


@virtual_time
async def test_concurrent_races_are_counted_one_by_one() -> None:
    node = await a_node()
    first, _ = await superseded(node)
    errors = await asyncio.gather(
        *(error_of(node, first) for _ in range(MAX_RACES)),
    )
    assert set(errors) == {RefreshRaceError}
    assert await error_of(node, first) is RefreshTokenReusedError


@virtual_time
async def test_renewal_during_the_comparison_does_not_make_a_race_theft() -> None:
    clock = ManualClock()
    stores = MemoryStores(clock)
    sessions = Intercepted(stores.sessions)
    node = await Node(
        clock,
        stores=stores,
        sessions=sessions,
        max_staleness=1e12,
        policy=Policy(grace_period=GRACE, refresh_race_window=WINDOW),
    ).start()
    first, second = await superseded(node)

    async def renew() -> None:
        sessions.after.clear()
        await node.refresh(second.refresh_token, client_context=HERE)

    sessions.after["describe"] = renew
    assert await error_of(node, first) is RefreshRaceError


@virtual_time
async def test_theft_during_the_comparison_is_theft() -> None:
    clock = ManualClock()
    stores = MemoryStores(clock)
    sessions = Intercepted(stores.sessions)
    node = await Node(
        clock,
        stores=stores,
        sessions=sessions,
        max_staleness=1e12,
        policy=Policy(grace_period=GRACE, refresh_race_window=WINDOW),
    ).start()
    first, second = await superseded(node)

    async def steal() -> None:
        sessions.after.clear()
        await node.refresh(second.refresh_token, client_context=Origin("203.0.113.9", "curl"))

    sessions.after["describe"] = steal
    assert await error_of(node, first) is RefreshTokenReusedError
