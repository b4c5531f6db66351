from __future__ import annotations

import pytest

from tests.support.raw_http_server import RawHttpServer, Respond, answer, send
from token_service.bff.failures import ProviderUnavailableError
from token_service.bff.transport import MAX_ANSWER, Transport


async def refusal(respond: Respond, timeout: float = 30) -> ProviderUnavailableError:
    """Return the error of a request that such a server answers."""
    with RawHttpServer(respond) as server:
        transport = Transport(timeout, None)
        with pytest.raises(ProviderUnavailableError) as caught:
            (await transport.get(server.url)).json()
        await transport.aclose()
        return caught.value


async def test_large_answer_is_cut_off() -> None:
    error = await refusal(answer(b" " * (MAX_ANSWER + 1)))
    assert error.message == "the provider's answer is too large"


@pytest.mark.parametrize(
    "respond",
    [
        answer(b"<html>"),
        answer(b"{}"),  # without a content type
        send(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n[]"),
        send(b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"a":1,"a":222}'),
        send(b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"),
    ],
)  # fmt: skip
async def test_other_answers_than_json_objects_are_refused(respond: Respond) -> None:
    assert not (await refusal(respond)).answer_lost


@pytest.mark.parametrize(
    "respond", [send(b""), send(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n{"), send(b"nonsense\r\n\r\n")]
)
async def test_answer_that_breaks_off_may_have_had_an_effect(respond: Respond) -> None:
    assert (await refusal(respond)).answer_lost


async def test_timeout_bounds_the_whole_answer() -> None:
    start = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 100000\r\n\r\n"

    def respond(connection: object) -> None:
        server.drip(connection, start, b" ")  # type: ignore[arg-type]

    with RawHttpServer(respond) as server:
        transport = Transport(0.5, None)
        with pytest.raises(ProviderUnavailableError, match="TimeoutError"):
            await transport.get(server.url)
        await transport.aclose()


async def test_unreachable_provider_is_an_outage() -> None:
    with RawHttpServer(send(b"")) as server:
        url = server.url
    transport = Transport(30, None)
    with pytest.raises(ProviderUnavailableError, match="ConnectError"):
        await transport.get(url)
    await transport.aclose()


@pytest.mark.parametrize(("header", "expected"), [("7", 7), ("100000", 60), ("soon", 5), ("-1", 5), ("", 5)])
async def test_retry_after_is_bounded(header: str, expected: float) -> None:
    text = f"HTTP/1.1 503 Away\r\nRetry-After: {header}\r\nContent-Length: 0\r\n\r\n"
    with RawHttpServer(send(text.encode())) as server:
        transport = Transport(30, None)
        assert (await transport.get(server.url)).retry_after == expected
        await transport.aclose()
