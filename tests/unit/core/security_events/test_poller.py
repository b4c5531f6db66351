"""What a poll reports, and when."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest

from tests.support.deadline import eventually
from token_service.core.security_events.poller import SecurityEventPoller
from token_service.core.security_events.polling import PollAnswer, PollRequest, TransmitterUnreachableError
from token_service.core.security_events.receiver import SecurityEventReceiver
from token_service.core.security_events.refusal import SetErrorCode, SetRefusedError
from token_service.core.security_events.transmitters import ConnectedTransmitter, parse_transmitters
from token_service.errors import StoreUnavailableError

SETTINGS = parse_transmitters(
    {
        "security_event_transmitters": {
            "idp": {
                "issuer": "https://idp.example", "keys": "https://idp.example/keys", "audience": "x",
                "algorithms": ["ES256"], "poll": {"endpoint": "https://idp.example/poll", "interval": "1s"},
            }
        }
    },
    {},
)["idp"]  # fmt: skip


class Leases:
    """A store whose lease a test gives and takes."""

    def __init__(self) -> None:
        self.held = True
        self.asked = 0
        self.released: list[str] = []

    async def acquire(self, name: str, holder: str, ttl: float) -> bool:
        self.asked += 1
        return self.held

    async def release(self, name: str, holder: str) -> None:
        self.released.append(name)


class Scene:
    """A poller, its transmitter and its receiver, all scripted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.leases = Leases()
        self.requests: list[PollRequest] = []
        self.answers: list[PollAnswer | Exception] = []
        self.received: list[str] = []
        self.results: dict[str, bool | Exception] = {}
        """What the receiver answers to a token; by default it is new."""
        self.delays: list[float] = []
        self.counted: list[bool] = []
        self.transmitters = {"idp": self.connected()}
        self.poller = SecurityEventPoller(
            cast("SecurityEventReceiver", self), cast("Any", self.leases), "node-1"
        )
        self.poller.on_poll(lambda _, succeeded: self.counted.append(succeeded))
        sleep = asyncio.sleep

        async def pause(seconds: float) -> None:
            task = asyncio.current_task()
            if task is not None and task.get_name() == "poll-security-events-idp":
                self.delays.append(seconds)
            await sleep(0)

        monkeypatch.setattr("token_service.core.security_events.poller.asyncio.sleep", pause)

    def connected(self) -> ConnectedTransmitter:
        return ConnectedTransmitter(SETTINGS, cast("Any", None), None, self.poll)

    async def poll(self, request: PollRequest) -> PollAnswer:
        self.requests.append(request)
        answer = self.answers.pop(0) if self.answers else PollAnswer({})
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def receive(self, _: ConnectedTransmitter, token: str) -> bool:
        self.received.append(token)
        result = self.results.get(token, True)
        if isinstance(result, Exception):
            raise result
        return result

    @asynccontextmanager
    async def running(self) -> Any:
        task = asyncio.create_task(self.poller.run())
        try:
            yield
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def polled(self, count: int, until: Callable[[], bool] = lambda: True) -> Sequence[PollRequest]:
        async with self.running():
            await eventually(lambda: len(self.requests) >= count and until(), interval=0)
        return self.requests


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    return Scene(monkeypatch)


async def test_tokens_are_reported_in_the_next_poll(scene: Scene) -> None:
    refused = SetRefusedError(SetErrorCode.INVALID_KEY, "no key")
    scene.answers = [PollAnswer({"1": "a", "2": "b", "3": "c"})]
    scene.results = {"b": refused}
    first, second, third, *_ = await scene.polled(3)
    assert (first.acknowledged, first.refused) == ([], {})
    assert (second.acknowledged, second.refused) == (["1", "3"], {"2": refused})
    assert (third.acknowledged, third.refused) == ([], {})


async def test_token_that_can_not_be_received_now_is_neither_acknowledged_nor_refused(scene: Scene) -> None:
    scene.answers = [PollAnswer({"1": "a", "2": "b", "3": "c"})]
    scene.results = {"b": StoreUnavailableError()}
    _, second, *_ = await scene.polled(2)
    assert (second.acknowledged, second.refused) == (["1"], {})
    assert scene.received == ["a", "b"]


async def test_report_that_was_not_delivered_is_repeated(scene: Scene) -> None:
    scene.answers = [
        PollAnswer({"1": "a"}),
        TransmitterUnreachableError("away"),
        TransmitterUnreachableError("away"),
    ]
    _, *later = await scene.polled(5)
    assert [each.acknowledged for each in later[:4]] == [["1"], ["1"], ["1"], []]
    assert scene.counted[:4] == [True, False, False, True]


async def test_failing_transmitter_is_asked_ever_less_often_and_logged_once(
    scene: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    scene.answers = [TransmitterUnreachableError("no answer in 10 seconds")] * 9
    await scene.polled(11)
    assert scene.delays[:9] == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0]
    assert scene.delays[9] == 1.0
    said = [record.getMessage() for record in caplog.records]
    assert said == [
        "security events of idp can't be polled, trying again: no answer in 10 seconds",
        "security events of idp arrive again",
    ]


async def test_transmitter_that_ignores_reports_is_not_asked_at_once(scene: Scene) -> None:
    scene.answers = [PollAnswer({"1": "a"}), PollAnswer({"1": "b"}), PollAnswer({"1": "c"})]
    scene.results = {"b": False, "c": SetRefusedError(SetErrorCode.INVALID_REQUEST, "no")}
    await scene.polled(4)
    assert scene.delays.count(0.0) == 1


async def test_node_without_the_lease_polls_nothing_and_forgets_its_report(scene: Scene) -> None:
    scene.answers = [PollAnswer({"1": "a"})]
    scene.results = {"a": True}

    async def lose(*_: Any) -> bool:
        scene.leases.held = False
        return True

    scene.receive = lose  # type: ignore[method-assign, assignment]
    async with scene.running():
        await eventually(lambda: scene.leases.asked > 5, interval=0)
        assert len(scene.requests) == 1
        scene.leases.held = True
        await eventually(lambda: len(scene.requests) > 1, interval=0)
    assert scene.requests[1].acknowledged == []
    assert scene.leases.released == ["security-events:idp"]


async def test_changed_transmitter_is_polled_by_a_new_task_and_a_removed_one_no_more(scene: Scene) -> None:
    async with scene.running():
        await eventually(lambda: scene.requests, interval=0)
        scene.transmitters = {"idp": scene.connected()}
        await eventually(lambda: len(scene.leases.released) == 1, interval=0)
        before = len(scene.requests)
        await eventually(lambda: len(scene.requests) > before, interval=0)
        scene.transmitters = {}
        await eventually(lambda: len(scene.leases.released) == 2, interval=0)


async def test_defect_does_not_end_the_polls(scene: Scene, caplog: pytest.LogCaptureFixture) -> None:
    scene.answers = [RuntimeError("a defect")]
    await scene.polled(3)
    assert "the poll for security events of idp failed" in caplog.text
    assert scene.counted[:2] == [False, True]
