"""The encrypted headers of pushes."""

from __future__ import annotations

import pytest
from msgspec import structs

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import PlainWrap
from token_service.core.event_streams.headers import PushHeaders
from token_service.core.event_streams.stream import DeliveryMethod, EventStream
from token_service.core.keys.key_wrap import KeyWrap
from token_service.errors import ConfigurationError
from token_service.tokens.secret import Secret

HEADER = Secret(b"Bearer s3cret")


class BothKeys(PlainWrap):
    """Encrypts with `kek-2`, and knows `kek-1`, too."""

    def __init__(self) -> None:
        super().__init__("kek-2")

    def unwrap(self, wrapped: bytes, context: bytes, wrapping_key_id: str) -> Secret:
        return PlainWrap(wrapping_key_id).unwrap(wrapped, context, wrapping_key_id)


def a_stream(stream_id: str, wrap: KeyWrap | None = None) -> EventStream:
    stream = EventStream(stream_id=stream_id, client_id="hub", method=DeliveryMethod.PUSH, create_time=1.0)
    return stream if wrap is None else PushHeaders(wrap).sealed(stream, HEADER)


def test_header_is_bound_to_its_stream_and_never_shown() -> None:
    headers = PushHeaders(PlainWrap())
    stream = a_stream("s-1", PlainWrap())
    opened = headers.opened(stream)
    assert opened is not None
    assert opened.reveal() == b"Bearer s3cret"
    assert "s3cret" not in repr(stream)
    with pytest.raises(ConfigurationError):
        headers.opened(structs.replace(stream, stream_id="s-2"))
    assert headers.opened(headers.sealed(stream, None)) is None


async def test_rewrap_encrypts_with_the_first_key_what_another_one_encrypted() -> None:
    store = MemoryStores().event_streams
    for stream in (
        a_stream("old", PlainWrap("kek-1")),
        a_stream("new", PlainWrap("kek-2")),
        a_stream("none"),
    ):
        await store.create(stream, 9, [])
    headers = PushHeaders(BothKeys())
    assert await headers.rewrap(store) == 1
    assert await headers.rewrap(store) == 0
    only_new = PushHeaders(PlainWrap("kek-2"))
    opened = {each.stream_id: only_new.opened(each) for each in await store.list()}
    assert {name: header and header.reveal() for name, header in opened.items()} == {
        "old": b"Bearer s3cret",
        "new": b"Bearer s3cret",
        "none": None,
    }
