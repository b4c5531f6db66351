"""ListSubscribers: order, pages and filters."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.core.node import Node
from tests.unit.core.two_nodes import draft
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.reports.cluster.subscribers import SubscriberPage, SubscriberQuery
from token_service.core.subscribers.lists import Lists
from token_service.core.subscribers.node_store import ListedSubscriber, SubscriberList
from token_service.errors import InvalidRequestError


class Scene:
    """A node whose collected lists a test sets."""

    def __init__(self, node: Node[ManualClock], epoch: str) -> None:
        self.node, self.epoch = node, epoch
        self.lists: dict[str, SubscriberList] = {}
        self.missing: list[str] = []
        self.asked: list[str] = []
        node.core.cluster.subscribers._lists.collect = self.collect  # type: ignore[method-assign]

    async def collect(self, node_id: str = "") -> Lists:
        self.asked.append(node_id)
        return Lists(self.lists, self.missing)

    def put(
        self,
        node_id: str,
        *subscribers: tuple[str, int],
        caller: str = "web",
        epoch: str = "",
        age: float = 0,
    ) -> None:
        listed = [
            ListedSubscriber(
                subscriber=f"{caller}:{name}",
                name=name,
                caller=caller,
                sequence=sequence,
                connected_for=5.0,
                confirmation_age=1.0 if sequence else None,
            )
            for name, sequence in subscribers
        ]
        self.lists[node_id] = SubscriberList(epoch or self.epoch, listed, age)

    async def list(self, **query: Any) -> SubscriberPage:
        return await self.node.core.cluster.subscribers.list(Caller.system(), SubscriberQuery(**query))


@pytest.fixture
async def scene() -> Scene:
    node = await Node(ManualClock()).start()
    await node.stores.log.append([draft(f"subject-{number}") for number in range(9)])
    return Scene(node, node.replica.epoch)


def names(page: SubscriberPage) -> list[str]:
    return [each.listed.name for each in page.subscribers]


async def test_subscribers_furthest_behind_come_first(scene: Scene) -> None:
    scene.put("node-1", ("b", 9), ("a", 4), ("new", 0), age=2.0)
    scene.put("node-2", ("c", 4), ("d", 8), caller="app")
    page = await scene.list()
    assert names(page) == ["new", "c", "a", "d", "b"]
    assert [each.entries_behind for each in page.subscribers] == [9, 5, 5, 1, 0]
    assert (page.head.epoch, page.head.sequence, page.next_page_token) == (scene.epoch, 9, "")
    new, of_app, of_web, *_ = page.subscribers
    assert new.applied is None
    assert (str(of_web.applied), of_web.node_id, of_web.list_age) == (f"{scene.epoch}:4", "node-1", 2.0)
    assert (of_app.listed.caller, of_app.node_id) == ("app", "node-2")


async def test_subscriber_of_a_node_with_another_log_is_behind_all_entries(scene: Scene) -> None:
    scene.put("node-1", ("a", 9))
    scene.put("node-2", ("b", 70), epoch="earlier")
    page = await scene.list()
    assert [(each.listed.name, each.entries_behind) for each in page.subscribers] == [("b", 9), ("a", 0)]
    assert str(page.subscribers[0].applied) == "earlier:70"


async def test_filters_choose_caller_node_and_those_behind(scene: Scene) -> None:
    scene.put("node-1", ("a", 9), ("b", 3))
    scene.put("node-2", ("c", 9), ("d", 8), caller="app")
    scene.missing = ["node-3"]
    assert names(await scene.list(caller="app")) == ["d", "c"]
    assert names(await scene.list(behind_only=True)) == ["b", "d"]
    assert names(await scene.list(behind_only=True, caller="web")) == ["b"]
    assert names(await scene.list(caller="we")) == []
    page = await scene.list(node_id="node-1")
    assert (scene.asked[-1], list(page.missing_nodes)) == ("node-1", ["node-3"])


async def test_pages_cover_ten_thousand_subscribers_once(scene: Scene) -> None:
    for node in range(4):
        scene.put(f"node-{node}", *((f"s{number}", number % 10) for number in range(2500)), caller=f"c{node}")
    seen: list[tuple[str, str]] = []
    token = ""
    for _ in range(10):
        page = await scene.list(page_size=1000, page_token=token)
        assert len(page.subscribers) == 1000
        seen += [(each.listed.subscriber, each.node_id) for each in page.subscribers]
        token = page.next_page_token
    assert token == ""
    assert len(set(seen)) == len(seen) == 10_000


async def test_default_page_has_a_hundred_subscribers(scene: Scene) -> None:
    scene.put("node-1", *((f"s{number:03}", 1) for number in range(101)))
    page = await scene.list()
    assert len(page.subscribers) == 100
    assert names(await scene.list(page_token=page.next_page_token)) == ["s100"]


async def test_subscriber_that_moves_between_two_pages_is_not_left_out(scene: Scene) -> None:
    scene.put("node-1", ("a", 1), ("b", 2), ("c", 3), ("d", 4))
    first = await scene.list(page_size=2)
    assert names(first) == ["a", "b"]
    scene.put("node-1", ("a", 5), ("b", 2), ("c", 6), ("d", 4))
    second = await scene.list(page_size=9, page_token=first.next_page_token)
    assert names(second) == ["d", "a", "c"]


async def test_wrong_requests_name_their_fields(scene: Scene) -> None:
    for query, field in (
        ({"page_size": 1001}, "page_size"),
        ({"page_size": -1}, "page_size"),
        ({"page_token": "!"}, "page_token"),
        ({"page_token": "AAAA"}, "page_token"),
        ({"page_token": "W10"}, "page_token"),  # an empty list
        ({"caller": "a\0b"}, "caller"),
        ({"node_id": "n" * 1025}, "node_id"),
    ):
        with pytest.raises(InvalidRequestError) as refused:
            await scene.list(**query)
        assert [each.field for each in refused.value.violations] == [field]
    assert scene.asked == []


async def test_page_token_of_an_earlier_log_is_refused(scene: Scene) -> None:
    scene.put("node-1", ("a", 1), ("b", 2))
    token = (await scene.list(page_size=1)).next_page_token
    state = scene.node.log._state
    state.head = replace(state.head, epoch="later")
    with pytest.raises(InvalidRequestError, match="list again from the first page"):
        await scene.list(page_token=token)
