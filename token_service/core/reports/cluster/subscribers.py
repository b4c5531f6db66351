"""ListSubscribers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import nsmallest
from typing import Final, NamedTuple

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.limits import Checks
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.subscribers.lists import Lists, SubscriberLists
from token_service.core.subscribers.node_store import ListedSubscriber, SubscriberList
from token_service.errors import InvalidRequestError
from token_service.tokens import base64url
from token_service.tokens.revocation import Cursor

MAX_SUBSCRIBERS_PAGE: Final = 1000
DEFAULT_SUBSCRIBERS_PAGE: Final = 100
_MAX_NAME: Final = 1024
"""Bytes of the name of a caller or a node."""


class _Place(NamedTuple):
    """A place in the order of a listing: the ones furthest behind first.

    A sequence only grows. So a subscriber that moves between two pages moves towards the end: it may be listed twice, but
    none that stays connected is left out.
    """

    sequence: int
    subscriber: str
    node_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SubscriberQuery:
    """Which subscribers to list; an empty condition does not count."""

    caller: str = ""
    node_id: str = ""
    behind_only: bool = False
    page_size: int = 0
    """0: `DEFAULT_SUBSCRIBERS_PAGE`."""
    page_token: str = ""


@dataclass(frozen=True, slots=True)
class ConnectedSubscriber:
    """A subscriber with an open stream."""

    listed: ListedSubscriber
    node_id: str
    list_age: float
    """Seconds since the times of `listed`."""
    applied: Cursor | None
    """The confirmed place; None: none yet."""
    entries_behind: int
    """The entries between the confirmed place and the head. All entries, if it is in another log."""


@dataclass(frozen=True, slots=True)
class SubscriberPage:
    """Subscribers, the ones furthest behind first. `next_page_token` is empty on the last page."""

    subscribers: Sequence[ConnectedSubscriber]
    next_page_token: str
    head: Cursor
    missing_nodes: Sequence[str]
    """The nodes that did not answer in time. Their subscribers are missing."""


class ClusterSubscribers:
    """The connected subscribers of all nodes."""

    def __init__(self, lists: SubscriberLists, read_index: ReadIndex) -> None:
        self._lists = lists
        self._read_index = read_index

    async def list(self, caller: Caller, query: SubscriberQuery) -> SubscriberPage:
        """List a page of the connected subscribers.

        Waits up to 5 s for the other nodes. Raises `PermissionDeniedError`, `InvalidRequestError` and
        `StoreUnavailableError`.
        """
        admit(caller, UseCase.LIST_SUBSCRIBERS)
        checks = Checks()
        checks.text("caller", query.caller, _MAX_NAME)
        checks.text("node_id", query.node_id, _MAX_NAME)
        after = checks.page(query.page_size, query.page_token, _parse_token, most=MAX_SUBSCRIBERS_PAGE)
        checks.done()
        lists = await self._lists.collect(query.node_id)
        head = await self._read_index.head()  # after the lists, so that no subscriber is ahead of it
        if after is not None and after[0] != head.epoch:
            raise InvalidRequestError.of(
                "page_token", "belongs to an earlier log; list again from the first page"
            )
        # A thread, because the subscribers of all nodes may be tens of thousands.
        return await asyncio.to_thread(
            _page, lists, Cursor(head.epoch, head.sequence), query, None if after is None else after[1]
        )


def _page(lists: Lists, head: Cursor, query: SubscriberQuery, after: _Place | None) -> SubscriberPage:
    size = query.page_size or DEFAULT_SUBSCRIBERS_PAGE
    # No two subscribers have the same place, so the rest of a tuple is never compared.
    found = nsmallest(size + 1, _places(lists, head, query, () if after is None else after))
    return SubscriberPage(
        [
            _connected(sequence, node_id, listed, each, head)
            for sequence, _, node_id, listed, each in found[:size]
        ],
        _format_token(head.epoch, _Place(*found[size - 1][:3])) if len(found) > size else "",
        head,
        lists.missing,
    )


def _places(
    lists: Lists, head: Cursor, query: SubscriberQuery, after: tuple[()] | _Place
) -> Iterator[tuple[int, str, str, ListedSubscriber, SubscriberList]]:
    """Return the subscribers that a query selects, with their places.

    Plain tuples, so that only a page becomes objects: with 10,000 subscribers that takes 3 ms instead of 27.
    """
    for node_id, each in lists.of_node.items():
        follows = each.epoch == head.epoch
        for listed in each.subscribers:
            # A node that has not changed over to the current log has subscribers that know nothing of it.
            sequence = min(listed.sequence, head.sequence) if follows else 0
            if (
                (not query.caller or listed.caller == query.caller)
                and (not query.behind_only or sequence < head.sequence)
                and (sequence, listed.subscriber, node_id) > after
            ):
                yield sequence, listed.subscriber, node_id, listed, each


def _connected(
    sequence: int, node_id: str, listed: ListedSubscriber, each: SubscriberList, head: Cursor
) -> ConnectedSubscriber:
    return ConnectedSubscriber(
        listed,
        node_id,
        each.age,
        Cursor(each.epoch, listed.sequence) if listed.sequence else None,
        head.sequence - sequence,
    )


_decode: Final = msgspec.json.Decoder(tuple[str, _Place]).decode


def _format_token(epoch: str, place: _Place) -> str:
    return base64url.encode(msgspec.json.encode((epoch, place)))


def _parse_token(text: str) -> tuple[str, _Place]:
    try:
        return _decode(base64url.decode(text.encode("ascii")))
    except msgspec.MsgspecError:
        raise ValueError("not a place") from None
