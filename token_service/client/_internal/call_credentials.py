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
from typing import Any, TypeAlias

import grpc

from token_service.client._internal.grpc_refusals import NONCE_KEY
from token_service.client._internal.proving import METHOD, ProofOrder, is_bound, key_of
from token_service.client._internal.source_protocols import (
    AccessTokens,
    SyncAccessTokens,
    is_for_event_loop,
    is_for_threads,
)
from token_service.client._internal.token_store import Tokens
from token_service.errors import InvalidReason
from token_service.wire import error_from_rpc

_Metadata: TypeAlias = tuple[tuple[str, str], ...]


class TokenCallCredentials(grpc.AuthMetadataPlugin):
    """gRPC call credentials that add `authorization: Bearer …` to every call, or `DPoP …` with a DPoP proof in `dpop`.

    The proof of a call has the method `POST` and the URI `https://authority/package.Service/Method`. gRPC calls the plugin
    in a separate thread, so waiting for a renewal blocks no other call.
    """

    def __init__(
        self, source: SyncAccessTokens | AccessTokens, loop: asyncio.AbstractEventLoop | None = None
    ) -> None:
        """Configure the plugin.

        `loop` is the event loop of a source such as `TokenSource`; by default the running one.
        """
        self._source = source
        self._loop = loop
        self._nonce: str | None = None
        if is_for_event_loop(source) and loop is None:
            self._loop = asyncio.get_running_loop()

    def take_nonce(self, error: grpc.RpcError) -> bool:
        """Take the DPoP nonce from the trailing metadata of a failed call, for the proofs of later calls.

        Returns whether the call failed for lack of this nonce: repeat it. Use one plugin for each server that asks for
        nonces.
        """
        trailers = error.trailing_metadata() if isinstance(error, grpc.Call | grpc.aio.AioRpcError) else None
        nonces = [value for name, value in trailers or () if name == NONCE_KEY]
        if len(nonces) != 1 or not isinstance(nonces[0], str):
            return False
        self._nonce = nonces[0]
        return error_from_rpc(error).metadata.get("reason") == InvalidReason.PROOF_NONCE

    def __call__(
        self, context: grpc.AuthMetadataContext, callback: Callable[[Any, Exception | None], None]
    ) -> None:
        """Pass the metadata, or the error, to gRPC's callback."""
        source = self._source
        uri = f"https://{context.service_url.partition('://')[2]}/{context.method_name}"
        if is_for_event_loop(source):
            assert self._loop is not None
            future = asyncio.run_coroutine_threadsafe(self._metadata(source, uri), self._loop)
            future.add_done_callback(lambda done: _answer(done, callback))
        elif is_for_threads(source):
            try:
                tokens = source.tokens()
                order = self._order(tokens, uri)
                metadata = _with_token(tokens, None if order is None else order.make())
            except Exception as error:  # noqa: BLE001  # gRPC waits for the callback and gives the error to the caller
                callback((), error)
            else:
                callback(metadata, None)

    async def _metadata(self, source: AccessTokens, uri: str) -> _Metadata:
        tokens = await source.tokens()
        order = self._order(tokens, uri)
        return _with_token(tokens, None if order is None else await order.make_async())

    def _order(self, tokens: Tokens, uri: str) -> ProofOrder | None:
        if not is_bound(tokens):
            return None
        return ProofOrder.of(key_of(self._source), METHOD, uri, tokens, self._nonce)


def _with_token(tokens: Tokens, proof: str | None) -> _Metadata:
    if proof is None:
        return (("authorization", f"Bearer {tokens.access_token}"),)
    return ("authorization", f"DPoP {tokens.access_token}"), ("dpop", proof)


def _answer(done: Future[_Metadata], callback: Callable[[Any, Exception | None], None]) -> None:
    try:
        metadata = done.result()
    except CancelledError:
        callback((), RuntimeError("the event loop of the token source has ended"))
    except Exception as error:  # noqa: BLE001  # gRPC waits for the callback and gives the error to the caller
        callback((), error)
    else:
        callback(metadata, None)
