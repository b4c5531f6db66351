"""Pass the transaction of the request being served on to further calls.

    channel = grpc.aio.insecure_channel(target, interceptors=aio_transaction_interceptors())
    client = httpx.AsyncClient(event_hooks={"request": [TransactionHook(hosts=["stock.internal"]).on_async_request]})

A call outside of a transaction is sent without a transaction token.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, Final

import grpc

from token_service.client._internal.transaction import (
    TRANSACTION,
    TXN_TOKEN,
    Transaction,
    current_transaction,
)
from token_service.errors import ConfigurationError

__all__ = [
    "Transaction",
    "TransactionHook",
    "TransactionInterceptor",
    "aio_transaction_interceptors",
    "current_transaction",
]


class TransactionInterceptor(
    grpc.UnaryUnaryClientInterceptor,
    grpc.UnaryStreamClientInterceptor,
    grpc.StreamUnaryClientInterceptor,
    grpc.StreamStreamClientInterceptor,
):
    """Interceptor for `grpc.intercept_channel`: each call carries the transaction token of the request being served.

    Use it for channels to services of the same trust domain only: the token is sent to the other end.
    """

    def intercept_unary_unary(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Send a call with its transaction token."""
        return continuation(_with_token(details), request)

    def intercept_unary_stream(self, continuation: Callable[..., Any], details: Any, request: Any) -> Any:
        """Send a call with its transaction token."""
        return continuation(_with_token(details), request)

    def intercept_stream_unary(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        """Send a call with its transaction token."""
        return continuation(_with_token(details), requests)

    def intercept_stream_stream(self, continuation: Callable[..., Any], details: Any, requests: Any) -> Any:
        """Send a call with its transaction token."""
        return continuation(_with_token(details), requests)


class _UnaryUnary(grpc.aio.UnaryUnaryClientInterceptor):
    async def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(_with_token_aio(details), request)


class _UnaryStream(grpc.aio.UnaryStreamClientInterceptor):
    async def intercept_unary_stream(self, continuation: Any, details: Any, request: Any) -> Any:
        return await continuation(_with_token_aio(details), request)


class _StreamUnary(grpc.aio.StreamUnaryClientInterceptor):
    async def intercept_stream_unary(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return await continuation(_with_token_aio(details), request_iterator)


class _StreamStream(grpc.aio.StreamStreamClientInterceptor):
    async def intercept_stream_stream(self, continuation: Any, details: Any, request_iterator: Any) -> Any:
        return await continuation(_with_token_aio(details), request_iterator)


_AIO: Final = (_UnaryUnary(), _UnaryStream(), _StreamUnary(), _StreamStream())


def aio_transaction_interceptors() -> Sequence[grpc.aio.ClientInterceptor]:
    """Return the interceptors of a `grpc.aio` channel, one for each kind of call. They do what `TransactionInterceptor` does."""
    return _AIO


class TransactionHook:
    """Request hook of httpx that sends the transaction token of the request being served.

    The token is sent to the given hosts only, so that it never leaves the trust domain by a redirect or a mistyped URL.
    """

    def __init__(self, hosts: Collection[str]) -> None:
        """Configure the hook. `hosts` are names without ports."""
        if isinstance(hosts, str) or not hosts:
            raise ConfigurationError("TransactionHook.hosts must be a collection of host names")
        self._hosts = frozenset(host.lower() for host in hosts)

    def on_request(self, request: Any) -> None:
        """Add the header to a request of `httpx.Client`."""
        transaction = TRANSACTION.get()
        if transaction is not None and request.url.host.lower() in self._hosts:
            request.headers[TXN_TOKEN] = transaction.token
        else:
            request.headers.pop(TXN_TOKEN, None)  # httpx copies the header to a redirect

    async def on_async_request(self, request: Any) -> None:
        """Add the header to a request of `httpx.AsyncClient`."""
        self.on_request(request)


class _Details(grpc.ClientCallDetails):
    def __init__(self, details: Any, metadata: Sequence[tuple[str, str | bytes]]) -> None:
        self.method = details.method
        self.timeout = details.timeout
        self.metadata = tuple(metadata)
        self.credentials = details.credentials
        self.wait_for_ready = details.wait_for_ready
        self.compression = details.compression


def _with_token(details: Any) -> Any:
    transaction = TRANSACTION.get()
    if transaction is None:
        return details
    return _Details(details, (*_other(details.metadata), (TXN_TOKEN, transaction.token)))


def _with_token_aio(details: Any) -> Any:
    transaction = TRANSACTION.get()
    if transaction is None:
        return details
    metadata = grpc.aio.Metadata(*_other(details.metadata), (TXN_TOKEN, transaction.token))
    return details._replace(metadata=metadata)


def _other(metadata: Any) -> list[tuple[str, str | bytes]]:
    return [(name, value) for name, value in metadata or () if name != TXN_TOKEN]
