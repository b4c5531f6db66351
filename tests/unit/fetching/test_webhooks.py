"""Requests to webhooks: the allowed targets and the accepted answers."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.support.form_receiver import FormReceiver
from token_service.core.events.webhooks.sending import NoAnswerError
from token_service.fetching.fetcher import HttpFetcher
from token_service.fetching.webhooks import MAX_WEBHOOK_ANSWER, WebhookPosts

HEADERS = {"webhook-id": "a:1", "webhook-timestamp": "5", "webhook-signature": "v1,x v1,y"}


async def test_body_is_posted_with_its_headers_and_the_answer_returned() -> None:
    async with FormReceiver() as receiver:
        receiver.status = "503 Busy\r\nRetry-After: 17"
        answer = await WebhookPosts(allow_private=True).send(receiver.url("/x?y=1"), HEADERS, b'{"a":1}')
        assert (answer.status, answer.retry_after) == (503, "17")
        (received,) = receiver.received
        assert received.path == "/x?y=1"
        assert received.headers | HEADERS == received.headers
        assert received.headers["content-type"] == "application/json"
        assert received.headers["content-length"] == "7"


@pytest.mark.parametrize(
    "url",
    [
        "http://hooks.example/",
        "ftp://hooks.example/",
        "https://user:pass@hooks.example/",
        "https://127.0.0.1/",
        "https://169.254.169.254/latest/meta-data/",
        "https://10.1.2.3/",
        "https://[::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://[::ffff:169.254.169.254]/",
        "https://[64:ff9b::7f00:1]/",
        "https://0.0.0.0/",
        "https://hooks.example/#x",
        "hooks.example",
    ],
)
async def test_url_that_leads_inside_is_refused_at_once_and_at_each_request(url: str) -> None:
    posts = WebhookPosts(allow_private=False)
    problem = posts.problem_of_url(url)
    assert problem is not None
    assert problem.startswith("can't be used: ")
    assert "user:pass" not in problem
    if "hooks.example" not in url or "http" not in url:
        with pytest.raises(NoAnswerError):
            await posts.send(url, HEADERS, b"{}")


@pytest.mark.parametrize("address", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "::1", "::ffff:127.0.0.1"])
async def test_name_that_resolves_to_a_private_address_is_refused(address: str) -> None:
    asked = []

    async def resolve(host: str, port: int) -> Sequence[str]:
        asked.append((host, port))
        return ["93.184.215.14", address]

    posts = WebhookPosts(allow_private=False, fetcher=HttpFetcher(resolve))
    assert posts.problem_of_url("https://hooks.example/") is None
    with pytest.raises(NoAnswerError, match="not a global address"):
        await posts.send("https://hooks.example/", HEADERS, b"{}")
    assert asked == [("hooks.example", 443)]


def test_private_addresses_and_loopback_without_tls_need_the_setting() -> None:
    posts = WebhookPosts(allow_private=True)
    for url in ("http://127.0.0.1:8000/x", "http://[::1]/", "https://10.0.0.1/"):
        assert posts.problem_of_url(url) is None
    assert posts.problem_of_url("http://10.0.0.1/") is not None


async def test_redirect_is_a_failure_and_not_followed() -> None:
    async with FormReceiver() as receiver, FormReceiver() as inside:
        receiver.status = f"307 Temporary Redirect\r\nLocation: {inside.url()}"
        with pytest.raises(NoAnswerError, match=r"redirect \(307\)"):
            await WebhookPosts(allow_private=True).send(receiver.url(), HEADERS, b"{}")
        assert inside.received == []


async def test_answer_is_bounded_in_size_and_time() -> None:
    async with FormReceiver() as receiver:
        receiver.body = b"x" * (MAX_WEBHOOK_ANSWER + 1)
        with pytest.raises(NoAnswerError, match="more than 65536 bytes"):
            await WebhookPosts(allow_private=True).send(receiver.url(), HEADERS, b"{}")
        receiver.open.clear()
        with pytest.raises(NoAnswerError, match=r"no answer in 0\.2 seconds"):
            await WebhookPosts(allow_private=True, timeout=0.2).send(receiver.url(), HEADERS, b"{}")
