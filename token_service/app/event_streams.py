"""Composition of the use cases of event streams."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from token_service.app.ports import Ports
from token_service.core.clients.lookup import ClientLookup
from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.event_streams.fan_out import FanOut
from token_service.core.event_streams.headers import PushHeaders
from token_service.core.event_streams.management import ReceiverStreams
from token_service.core.event_streams.pausing import Pausing
from token_service.core.event_streams.polling import Polls
from token_service.core.event_streams.pushing import PushAnswer, Pusher, PushFailedError
from token_service.core.event_streams.sets import SecurityEventTokens, Selection
from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.transmitter import Transmitter
from token_service.core.events.feed import EventFeed
from token_service.core.issuing.minter import Minter
from token_service.core.leases import Lease
from token_service.tokens.secret import Secret

_LEASE: Final = "ssf"
"""The lease of the node that fills and pushes the streams."""


@dataclass(frozen=True, slots=True)
class EventStreamParts:
    """The parts of a node that these use cases are made of."""

    ports: Ports
    node_id: str
    issuer: str
    clients: ClientLookup
    subjects: PairwiseSubjects
    minter: Minter
    feed: EventFeed


@dataclass(frozen=True, slots=True)
class EventStreamUseCases:
    """The use cases of the event streams of receivers."""

    streams: ReceiverStreams
    polls: Polls
    transmitter: Transmitter
    headers: PushHeaders
    store: EventStreamStore

    async def rewrap(self) -> int:
        """Encrypt all headers with the first key-encryption key; return how many used another one."""
        return await self.headers.rewrap(self.store)


def make_event_stream_use_cases(parts: EventStreamParts) -> EventStreamUseCases:
    """Compose the use cases, without I/O."""
    ports, clock, feed = parts.ports, parts.ports.clock, parts.feed
    stores, store = ports.stores, ports.stores.event_streams
    pushes = ports.event_pushes
    headers = PushHeaders(ports.wrap)
    selection = Selection(store, stores.sessions, parts.clients, parts.subjects, clock)
    tokens = SecurityEventTokens(stores.audit, selection, parts.minter, clock, issuer=parts.issuer)
    pausing = Pausing(store, ports.audit, clock, ports.entropy, ports.event_stream_paused)
    transmitter = Transmitter(
        store,
        feed,
        FanOut(store, stores.events, feed, selection, pausing),
        Pusher(
            store,
            tokens,
            headers,
            _send_nothing if pushes is None else pushes.send,
            clock,
            ports.events_counted,
        ),
        parts.clients,
        Lease(stores.leases, _LEASE, parts.node_id),
        clock,
        ports.audit,
    )
    streams = ReceiverStreams(
        store,
        headers,
        ports.audit,
        clock,
        ports.entropy,
        issuer=parts.issuer,
        problem_of_url=_no_pushes if pushes is None else pushes.problem_of_url,
        changed=transmitter.wake,
    )
    polls = Polls(streams, store, tokens, clock, ports.events_counted)
    return EventStreamUseCases(streams, polls, transmitter, headers, store)


def _no_pushes(_url: str) -> str:
    return "can't be used: this service pushes no events"


async def _send_nothing(_url: str, _token: str, _authorization: Secret | None) -> PushAnswer:
    raise PushFailedError("this service pushes no events")
