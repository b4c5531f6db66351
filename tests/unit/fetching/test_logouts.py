from __future__ import annotations

import pytest

from tests.support.form_receiver import FormReceiver
from token_service.core.logout.delivering import ReceiverUnreachableError
from token_service.fetching.logouts import LogoutPosts


@pytest.mark.parametrize("status", ["200 OK", "204 No Content", "400 Bad Request"])
async def test_token_is_posted_and_the_status_returned(status: str) -> None:
    async with FormReceiver() as receiver:
        receiver.status = status
        assert await LogoutPosts(allow_private=True).send(receiver.url(), "a.b.c") == int(status[:3])
        (received,) = receiver.received
        assert received.form == {"logout_token": "a.b.c"}


async def test_receiver_that_does_not_answer_is_unreachable() -> None:
    async with FormReceiver() as receiver:
        receiver.open.clear()
        with pytest.raises(ReceiverUnreachableError, match=r"no answer in 0\.2 seconds"):
            await LogoutPosts(allow_private=True, timeout=0.2).send(receiver.url(), "a.b.c")
        await receiver.kill()
        with pytest.raises(ReceiverUnreachableError, match="no connection"):
            await LogoutPosts(allow_private=True).send(receiver.url(), "a.b.c")
        await receiver.listen()


async def test_private_receiver_gets_nothing_unless_allowed() -> None:
    async with FormReceiver() as receiver:
        for url in (receiver.url(), f"https://127.0.0.1:{receiver.port}/logout"):
            with pytest.raises(ReceiverUnreachableError):
                await LogoutPosts(allow_private=False).send(url, "a.b.c")
        assert receiver.received == []
