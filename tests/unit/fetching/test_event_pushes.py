from __future__ import annotations

import pytest

from tests.support.form_receiver import FormReceiver
from token_service.core.event_streams.pushing import PushAnswer, PushFailedError
from token_service.fetching.event_pushes import HttpPushes
from token_service.tokens.secret import Secret

HEADER = Secret(b"Bearer of the receiver")


@pytest.mark.parametrize("status", ["202 Accepted", "400 Bad Request", "503 Service Unavailable"])
async def test_token_is_posted_with_its_type_and_header(status: str) -> None:
    async with FormReceiver() as receiver:
        receiver.status, receiver.body = status, b'{"err":"invalid_request"}'
        answer = await HttpPushes(allow_private=True).send(receiver.url("/events"), "token=a.b.c", HEADER)
        assert answer == PushAnswer(int(status[:3]), b'{"err":"invalid_request"}')
        (received,) = receiver.received
        headers = received.headers
        assert (headers["content-type"], headers["accept"], headers["authorization"]) == (
            "application/secevent+jwt",
            "application/json",
            "Bearer of the receiver",
        )
        assert (received.path, received.form) == ("/events", {"token": "a.b.c"})


async def test_push_without_a_header_sends_none() -> None:
    async with FormReceiver() as receiver:
        await HttpPushes(allow_private=True).send(receiver.url(), "a.b.c", None)
        assert "authorization" not in receiver.received[0].headers


async def test_receiver_that_does_not_answer_or_redirects_has_failed() -> None:
    async with FormReceiver() as receiver:
        pushes = HttpPushes(allow_private=True, timeout=0.2)
        receiver.open.clear()
        with pytest.raises(PushFailedError, match=r"no answer in 0\.2 seconds"):
            await pushes.send(receiver.url(), "a.b.c", HEADER)
        receiver.open.set()
        receiver.status = "307 Temporary Redirect"
        with pytest.raises(PushFailedError, match="redirect"):
            await HttpPushes(allow_private=True).send(receiver.url(), "a.b.c", HEADER)


async def test_private_receiver_gets_nothing_unless_allowed() -> None:
    pushes = HttpPushes(allow_private=False)
    async with FormReceiver() as receiver:
        assert "not https" in pushes.problem_of_url(receiver.url())
        https = f"https://127.0.0.1:{receiver.port}/events"
        for url in (receiver.url(), https, f"https://localhost:{receiver.port}/events"):
            with pytest.raises(PushFailedError):
                await pushes.send(url, "a.b.c", HEADER)
        assert receiver.received == []
    assert pushes.problem_of_url("https://receiver.example/events") == ""
    assert "user name" in pushes.problem_of_url("https://me:secret@receiver.example/events")
