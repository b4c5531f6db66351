"""How a service gets an access token of its own: from an HTTP token endpoint, or by a call of IssueToken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from token_service.client._internal.token_store import Tokens, lifetime
from token_service.client._internal.trace_context import trace_options
from token_service.client.dpop_key import DpopKey
from token_service.client.token_endpoint import Issued, TokenEndpoint
from token_service.errors import ConfigurationError
from token_service.v1.token_pb2 import TOKEN_TYPE_ACCESS
from token_service.v1.token_service_pb2 import IssueTokenRequest
from token_service.wire import error_from_rpc


class TokenIssuance(Protocol):
    """A way to get an access token. Each call gets a new token."""

    def obtain(self, timeout: float) -> Issued:
        """Get a token. Blocks for `timeout` seconds at most. Raises `ServiceError`."""
        ...

    async def obtain_async(self, timeout: float) -> Issued:
        """Get a token as `obtain` does, without blocking the event loop."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientCredentials(TokenEndpoint):
    """The client credentials grant at an HTTP token endpoint (RFC 6749, section 4.4)."""

    scopes: Sequence[str] = ()
    """Requested scopes. Empty: all scopes of the client."""
    audience: Sequence[str] = ()
    """Requested audience, sent as `resource` (RFC 8707)."""

    def obtain(self, timeout: float) -> Issued:
        """Ask the token endpoint. Raises `ServiceError`: `UnreachableError` if it does not answer in time."""
        parameters = [("grant_type", "client_credentials")]
        if self.scopes:
            parameters.append(("scope", " ".join(self.scopes)))
        return self.ask([*parameters, *(("resource", each) for each in self.audience)], timeout)

    async def obtain_async(self, timeout: float) -> Issued:
        """Ask the token endpoint in another thread."""
        return await asyncio.to_thread(self.obtain, timeout)


class IssuedByCall:
    """Access tokens by calls of IssueToken. The caller needs the permission `issue`."""

    def __init__(self, stub: Any, request: IssueTokenRequest, dpop_key: DpopKey | None = None) -> None:
        """Configure the calls.

        `stub` is a `TokenServiceStub`: of a `grpc.aio` channel for an `IssuingTokenSource`, of a `grpc` channel for a
        `SyncIssuingTokenSource`. `request` names the subject and the client; only an access token is issued. `dpop_key`
        is the key to bind the tokens to (RFC 9449).
        """
        if set(request.token_types) - {TOKEN_TYPE_ACCESS}:
            raise ConfigurationError(
                "IssuedByCall issues access tokens only; leave IssueTokenRequest.token_types empty"
            )
        self._stub = stub
        self._request = IssueTokenRequest()
        self._request.CopyFrom(request)
        self._request.token_types[:] = [TOKEN_TYPE_ACCESS]
        self.dpop_key = dpop_key
        """The key that the tokens are bound to."""
        if dpop_key is not None:
            self._request.confirmation.jkt = dpop_key.jkt

    def obtain(self, timeout: float) -> Issued:
        """Call IssueToken. Raises `ServiceError`."""
        try:
            return _issued(self._stub.IssueToken(self._request, timeout=timeout, **trace_options()))
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error

    async def obtain_async(self, timeout: float) -> Issued:
        """Call IssueToken. Raises `ServiceError`."""
        try:
            return _issued(await self._stub.IssueToken(self._request, timeout=timeout, **trace_options()))
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error


def _issued(response: Any) -> Issued:
    now = time.time()
    tokens = Tokens.of(response, now)
    life = lifetime(tokens)
    return Issued(tokens, tokens.access_expire_time - now if life is None else life)
