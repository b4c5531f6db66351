from __future__ import annotations

import pytest

from tests.support.form_receiver import FormReceiver
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import Answer, FetchRules, HttpFetcher

PRIVATE = FetchRules(allow_private=True, max_bytes=64)
FORM = {"grant_type": "a+b c", "code": "é&=%", "empty": ""}


async def test_form_arrives_with_its_length_and_authorization() -> None:
    async with FormReceiver() as receiver:
        receiver.body = b"{}"
        answer = await HttpFetcher().post(receiver.url("/a?b=c"), FORM, PRIVATE, authorization="Basic eA==")
        assert answer == Answer(b"{}", "", "", 200)
        (received,) = receiver.received
    assert (received.path, received.form) == ("/a?b=c", FORM)
    assert received.headers["content-type"] == "application/x-www-form-urlencoded"
    assert received.headers["authorization"] == "Basic eA=="
    assert received.headers["host"] == f"127.0.0.1:{receiver.port}"


@pytest.mark.parametrize("status", ["204 No Content", "400 Bad Request", "503 Service Unavailable"])
async def test_status_is_returned(status: str) -> None:
    async with FormReceiver() as receiver:
        receiver.status = status
        assert (await HttpFetcher().post(receiver.url(), {}, PRIVATE)).status == int(status[:3])
        assert "authorization" not in receiver.received[0].headers


async def test_redirect_is_not_followed() -> None:
    async with FormReceiver() as receiver:
        receiver.status = "307 Temporary Redirect\r\nLocation: /elsewhere"
        with pytest.raises(FetchError, match=r"a redirect \(307\)"):
            await HttpFetcher().post(receiver.url(), FORM, PRIVATE)
        assert receiver.paths == ["/logout"]


async def test_long_answer_is_refused() -> None:
    async with FormReceiver() as receiver:
        receiver.body = b"x" * 65
        with pytest.raises(FetchError, match="more than 64 bytes"):
            await HttpFetcher().post(receiver.url(), FORM, PRIVATE)


async def test_private_address_gets_no_form() -> None:
    async with FormReceiver() as receiver:
        with pytest.raises(FetchError, match="not https"):
            await HttpFetcher().post(receiver.url(), FORM, FetchRules())
        with pytest.raises(FetchError, match="not a global address"):
            await HttpFetcher().post(f"https://127.0.0.1:{receiver.port}/", FORM, FetchRules())
        assert receiver.received == []
