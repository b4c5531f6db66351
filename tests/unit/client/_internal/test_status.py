"""A status shows the state before or after an event, never a part of the event.

A status is read at every line of each event, and each event happens at every line of a status.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import grpc
import pytest

from tests.support.interleaving import count_points, interleave, orders
from tests.unit.client._internal.validator_site import TOKEN, S, ValidatorSite
from token_service.client._internal.explanation import explain
from token_service.client._internal.following.follower import Follower
from token_service.client._internal.following.state import Probe
from token_service.client._internal.following.thread_follower import ThreadFollower
from token_service.client._internal.status import ValidatorStatus, status_of
from token_service.errors import Reason, StoreUnavailableError, UnreachableError
from token_service.tokens.revocation import Cursor
from token_service.v1.key_service_pb2 import KeySet
from token_service.v1.token_service_pb2 import StreamRevocationsResponse

STREAM, PROBE = "StreamRevocations", "ConfirmRevocations"
UNREACHABLE = UnreachableError("connection refused")
REFUSED = StoreUnavailableError("no database")


class Site(ValidatorSite):
    """A validator with an open stream and a proof of one second ago."""

    def __init__(self) -> None:
        super().__init__()
        assert self.parts.contact is not None
        self.contact = self.parts.contact
        self.contact.answered(STREAM)
        self.clock.advance(1.0)

    def status(self) -> ValidatorStatus:
        return status_of(self.parts)

    def message(self) -> None:
        self.revoke("session_id")

    def snapshot(self) -> None:
        self.snapshot_with("subject")

    def other_log(self) -> None:
        self.follower_state.connect()
        key_set = self.key_set()
        key_set.revision = 7
        self.follower_state.receive(
            StreamRevocationsResponse(reset=True, key_set=key_set, cursor="epoch-two:9")
        )

    def earlier_head(self) -> None:
        self.follower_state.answer(Probe(S, self.clock.wall, Cursor("epoch-one", 1)), "epoch-one:0")

    def newer_keys(self) -> None:
        key_set = self.key_set()
        key_set.revision = 2
        assert self.follower_state.take_key_set(key_set)

    def other_issuer(self) -> None:
        assert not self.follower_state.take_key_set(KeySet(issuer="https://other.test", revision=9))

    def stream_failed(self) -> None:
        self.contact.failed(STREAM, UNREACHABLE)

    def probe_failed(self) -> None:
        self.contact.failed(PROBE, REFUSED)

    def stream_ended(self) -> None:
        self.contact.stream_ended()

    def stream_answered(self) -> None:
        self.contact.answered(STREAM)


EVENTS: tuple[Callable[[Site], None], ...] = (
    Site.message,
    Site.snapshot,
    Site.other_log,
    Site.prove,
    Site.earlier_head,
    Site.newer_keys,
    Site.other_issuer,
    Site.stream_failed,
    Site.probe_failed,
    Site.stream_ended,
    Site.stream_answered,
)
PAIRS = (
    (Site.snapshot, Site.stream_failed),
    (Site.stream_failed, Site.prove),
    (Site.stream_ended, Site.probe_failed),
    (Site.probe_failed, Site.newer_keys),
    (Site.prove, Site.other_log),
)


def following(site: Site) -> None:
    """Keep the stream open and the proof young."""


def lost(site: Site) -> None:
    """Lose the connection, so that the next message ends several failures at once."""
    site.stream_failed()


def stale(site: Site) -> None:
    site.clock.advance(S)


STARTS: tuple[Callable[[Site], None], ...] = (following, lost, stale)


def history(start: Callable[[Site], None], events: Sequence[Callable[[Site], None]]) -> list[ValidatorStatus]:
    """Return the status before the events and after each of them."""
    site = Site()
    start(site)
    seen = [site.status()]
    for event in events:
        event(site)
        seen.append(site.status())
    return seen


@pytest.mark.parametrize("start", STARTS, ids=lambda start: start.__name__)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: event.__name__)
def test_a_status_during_an_event_shows_the_state_before_or_after(
    event: Callable[[Site], None], start: Callable[[Site], None]
) -> None:
    known = history(start, [event])
    site = Site()
    start(site)
    for point in range(count_points(partial(event, site))):
        site, seen = Site(), []
        start(site)
        interleave(partial(event, site), [lambda: seen.append(site.status())], [point])  # noqa: B023
        assert seen[0] in known, f"at {point}"
        assert site.status() == known[-1]


@pytest.mark.parametrize(("first", "second"), PAIRS)
def test_events_during_a_status_are_shown_in_their_order(
    first: Callable[[Site], None], second: Callable[[Site], None]
) -> None:
    known = history(following, [first, second])
    points = count_points(Site().status)
    assert points > 20
    for order in orders(points, 2):
        site = Site()
        seen = interleave(site.status, [partial(first, site), partial(second, site)], order)
        assert seen in known, f"at {order}"


def test_a_proof_during_a_status_does_not_make_its_staleness_negative() -> None:
    def proof(site: Site) -> None:
        site.clock.advance(1.0)
        site.prove()

    for point in range(count_points(Site().status)):
        site = Site()
        status = interleave(site.status, [partial(proof, site)], [point])
        assert status.staleness in {0.0, 1.0, 2.0}, f"at {point}"


def test_an_explanation_during_a_proof_shows_the_state_before_or_after() -> None:
    def explained(site: Site) -> str:
        return str(explain(site.parts, TOKEN, None, ()))

    site = Site()
    stale(site)
    known = [explained(site)]
    site.prove()
    known.append(explained(site))
    for point in range(count_points(site.prove)):
        site, seen = Site(), []
        stale(site)
        interleave(site.prove, [lambda: seen.append(explained(site))], [point])  # noqa: B023
        assert seen[0] in known, f"at {point}"


class LostError(grpc.RpcError):
    """The end of a stream whose server has stopped."""

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.UNAVAILABLE

    def details(self) -> str:
        return "Socket closed"

    def trailing_metadata(self) -> tuple[()]:
        return ()


class OneMessage:
    """A stream that delivers one message and is then lost."""

    def __init__(self, message: StreamRevocationsResponse) -> None:
        self._message = message

    def __iter__(self) -> Iterator[StreamRevocationsResponse]:
        yield self._message
        raise LostError

    async def __aiter__(self) -> AsyncIterator[StreamRevocationsResponse]:
        yield self._message
        raise LostError

    def cancel(self) -> None:
        pass


@pytest.mark.parametrize("kind", ["async", "sync"])
def test_a_lost_stream_is_reported_with_its_error(kind: str) -> None:
    def follow(site: Site) -> Callable[[], object]:
        stream = OneMessage(StreamRevocationsResponse(caught_up=True, cursor="epoch-one:0"))
        stubs = SimpleNamespace(StreamRevocations=lambda _request: stream)
        connection: Any = SimpleNamespace(contact=site.contact, stubs=stubs)
        assert site.parts.service is not None
        if kind == "sync":
            connection.renew = lambda _error, _stubs: False
            thread = ThreadFollower(
                site.follower_state, connection, site.parts.service, "v", site.parts.counters
            )
            return thread._read_stream

        async def renew(error: object, stubs: object) -> bool:
            await asyncio.sleep(0)
            return False

        connection.renew = renew
        task = Follower(site.follower_state, connection, site.parts.service, "v", site.parts.counters)
        return lambda: asyncio.run(task._read_stream())

    site = Site()
    points = count_points(follow(site))
    assert points > 40
    assert (site.status().connected, site.status().last_error_reason) == (False, Reason.UNREACHABLE)
    for point in range(points):
        site, seen = Site(), []
        interleave(follow(site), [lambda: seen.append(site.status())], [point])  # noqa: B023
        (status,) = seen
        lost = (False, Reason.UNREACHABLE)
        assert (status.connected, status.last_error_reason) in {(True, None), lost}, f"at {point}"
        # The probe is still good, so a lost stream is not yet a problem.
        assert status.problem == ""
