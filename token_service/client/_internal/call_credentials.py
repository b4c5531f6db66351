"""Access tokens as gRPC call credentials.

    credentials = grpc.composite_channel_credentials(
        grpc.ssl_channel_credentials(), grpc.metadata_call_credentials(TokenCallCredentials(source))
    )

gRPC sends call credentials over secure channels only.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import Any

import grpc

from token_service.client.sync_token_source import SyncTokenSource
from token_service.client.token_source import TokenSource
from token_service.errors import ServiceError


class TokenCallCredentials(grpc.AuthMetadataPlugin):
    """gRPC call credentials that add `authorization: Bearer …` to every call.

    gRPC calls the plugin in a separate thread, so waiting for a renewal blocks no other call.
    """

    def __init__(
        self, source: SyncTokenSource | TokenSource, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Configure the plugin.

        `loop` is the event loop of a `TokenSource`; by default the running one.
        """
        self._source = source
        self._loop = loop
        if isinstance(source, TokenSource) and loop is None:
            self._loop = asyncio.get_running_loop()

    def __call__(
        self, context: grpc.AuthMetadataContext, callback: Callable[[Any, Exception | None], None]
    ) -> None:
        """Pass the metadata, or the error, to gRPC's callback."""
        if isinstance(self._source, SyncTokenSource):
            try:
                token = self._source.token()
            except ServiceError as error:
                callback((), error)
            else:
                callback((("authorization", f"Bearer {token}"),), None)
            return
        assert self._loop is not None
        future = asyncio.run_coroutine_threadsafe(self._source.token(), self._loop)
        future.add_done_callback(lambda done: _answer(done, callback))


def _answer(done: Future[str], callback: Callable[[Any, Exception | None], None]) -> None:
    try:
        token = done.result()
    except CancelledError:
        callback((), RuntimeError("the event loop of the token source has ended"))
    except Exception as error:  # noqa: BLE001  # gRPC waits for the callback and gives the error to the caller
        callback((), error)
    else:
        callback((("authorization", f"Bearer {token}"),), None)
