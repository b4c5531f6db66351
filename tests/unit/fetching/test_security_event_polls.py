"""Polls of a transmitter (RFC 8936)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.transmitter import Transmitter
from token_service.core.security_events.polling import MAX_POLLED, PollRequest, TransmitterUnreachableError
from token_service.core.security_events.refusal import SetErrorCode, SetRefusedError
from token_service.fetching.fetcher import HttpFetcher
from token_service.fetching.security_event_polls import TransmitterPolls


@pytest.fixture
def transmitter() -> Iterator[Transmitter]:
    with Transmitter() as running:
        yield running


@pytest.fixture
def polls(transmitter: Transmitter, tmp_path: Path) -> TransmitterPolls:
    (tmp_path / "token").write_text(transmitter.bearer)
    return TransmitterPolls(
        f"{transmitter.issuer}/poll", HttpFetcher(), token_file=str(tmp_path / "token"), private=True
    )


async def test_tokens_are_fetched_and_reported(transmitter: Transmitter, polls: TransmitterPolls) -> None:
    transmitter.offer(["set-1", "set-2", "set-3"])
    offered = dict(transmitter.queue)
    answer = await polls.poll(PollRequest())
    assert (answer.tokens, answer.more_available) == (offered, False)
    refused = {"set-3": SetRefusedError(SetErrorCode.INVALID_AUDIENCE, "aud is another receiver")}
    answer = await polls.poll(PollRequest(acknowledged=["set-1"], refused=refused))
    assert list(answer.tokens) == ["set-2"]
    assert transmitter.polls == [
        {"maxEvents": MAX_POLLED, "returnImmediately": True},
        {
            "maxEvents": MAX_POLLED,
            "returnImmediately": True,
            "ack": ["set-1"],
            "setErrs": {"set-3": {"err": "invalid_audience", "description": "aud is another receiver"}},
        },
    ]


async def test_more_tokens_than_one_answer_holds_are_announced(
    transmitter: Transmitter, polls: TransmitterPolls
) -> None:
    transmitter.offer(f"set-{number}" for number in range(MAX_POLLED + 1))
    answer = await polls.poll(PollRequest())
    assert (len(answer.tokens), answer.more_available) == (MAX_POLLED, True)


async def test_token_that_is_no_text_is_passed_on_to_be_refused(
    transmitter: Transmitter, polls: TransmitterPolls
) -> None:
    transmitter.answer = (200, json.dumps({"sets": {"set-1": 5, "x" * 2000: "a.b.c"}}).encode())
    assert (await polls.poll(PollRequest())).tokens == {"set-1": ""}


@pytest.mark.parametrize(
    ("status", "body", "problem"),
    [
        (500, b"", "status 500"),
        (302, b"", "redirect"),
        (200, b"", "no JSON object"),
        (200, b"[]", "no JSON object"),
        (200, b'{"sets": {}, "sets": {}}', "no JSON object"),
        (200, b'{"sets": []}', "no object sets"),
        (200, b'{"sets": {}, "moreAvailable": 1}', "no object sets"),
        (200, b'{"sets": {"a": "' + b"x" * 300_000 + b'"}}', "more than 262144 bytes"),
    ],
)
async def test_unusable_answer_is_an_error(
    transmitter: Transmitter, polls: TransmitterPolls, status: int, body: bytes, problem: str
) -> None:
    transmitter.answer = (status, body)
    with pytest.raises(TransmitterUnreachableError, match=problem):
        await polls.poll(PollRequest())


async def test_token_of_the_poll_is_read_from_its_file_each_time(
    transmitter: Transmitter, polls: TransmitterPolls, tmp_path: Path
) -> None:
    transmitter.bearer = "replaced-token"
    with pytest.raises(TransmitterUnreachableError, match="status 401"):
        await polls.poll(PollRequest())
    (tmp_path / "token").write_text("replaced-token\n")
    assert (await polls.poll(PollRequest())).tokens == {}


async def test_private_address_is_not_polled_unless_allowed(transmitter: Transmitter) -> None:
    for url in (f"{transmitter.issuer}/poll", transmitter.issuer.replace("http:", "https:")):
        with pytest.raises(TransmitterUnreachableError):
            await TransmitterPolls(url, HttpFetcher()).poll(PollRequest())
    assert transmitter.polls == []
