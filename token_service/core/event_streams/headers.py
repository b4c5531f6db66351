"""The header `Authorization` that a receiver wants with each push, encrypted with the key-encryption key."""

from __future__ import annotations

from typing import Final

from msgspec import structs

from token_service.core.event_streams.store import EventStreamStore
from token_service.core.event_streams.stream import EventStream
from token_service.core.keys.key_wrap import KeyWrap
from token_service.tokens.secret import Secret

_CONTEXT: Final = "event stream "


class PushHeaders:
    """Encrypts and decrypts the headers."""

    def __init__(self, wrap: KeyWrap) -> None:
        self._wrap = wrap

    def sealed(self, stream: EventStream, header: Secret | None) -> EventStream:
        """Return the stream with a header; None: without one."""
        if header is None:
            return structs.replace(stream, authorization=b"", wrapping_key_id="")
        wrapped = self._wrap.wrap(header, _context(stream))
        return structs.replace(stream, authorization=wrapped, wrapping_key_id=self._wrap.key_id)

    def opened(self, stream: EventStream) -> Secret | None:
        """Return the header of a stream; None: it has none.

        Raises `ConfigurationError` if its key-encryption key is not configured.
        """
        if not stream.authorization:
            return None
        return self._wrap.unwrap(stream.authorization, _context(stream), stream.wrapping_key_id)

    async def rewrap(self, store: EventStreamStore) -> int:
        """Encrypt all headers with the first key-encryption key; return how many used another one.

        Raises `ConfigurationError` and `StoreUnavailableError`.
        """
        count = 0
        for stream in await store.list():
            header = self.opened(stream)
            if header is not None and stream.wrapping_key_id != self._wrap.key_id:
                again = structs.replace(self.sealed(stream, header), revision=stream.revision + 1)
                count += await store.save(again, ())
        return count


def _context(stream: EventStream) -> bytes:
    return f"{_CONTEXT}{stream.stream_id}".encode()
