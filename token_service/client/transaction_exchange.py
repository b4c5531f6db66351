"""Exchange of an access token for a transaction token, at the edge of a trust domain.

    exchange = TransactionExchange(token_url=url, client_id="gateway", secret=secret, trust_domain="shop.example")
    async with exchange.transaction_async(access_token, scopes=["orders"], details={"order": 7}):
        await orders.Place(request)  # carries the transaction token, if the channel has the transaction interceptors

The rules of the exchange: docs/token-exchange.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any, Final

from token_service.client._internal.transaction import TRANSACTION, Transaction
from token_service.client.token_endpoint import TokenEndpoint
from token_service.errors import ConfigurationError, InternalError
from token_service.tokens import base64url, strict_json

_GRANT_TYPE: Final = "urn:ietf:params:oauth:grant-type:token-exchange"
_ACCESS_TOKEN: Final = "urn:ietf:params:oauth:token-type:access_token"  # the name of a type
_TRANSACTION_TOKEN: Final = "urn:ietf:params:oauth:token-type:txn_token"  # likewise


@dataclass(frozen=True, slots=True, kw_only=True)
class TransactionExchange(TokenEndpoint):
    """Exchanges access tokens for transaction tokens (draft-ietf-oauth-transaction-tokens, section 9).

    Each exchange is one request to the token endpoint: a transaction token is for one request from outside.
    """

    trust_domain: str
    """The audience of the transaction tokens."""
    timeout: float = 5.0
    """Seconds that one exchange may take."""

    def __post_init__(self) -> None:
        TokenEndpoint.__post_init__(self)
        if not self.trust_domain:
            raise ConfigurationError("trust_domain is empty; set it as the services inside expect it")
        if not 0.05 <= self.timeout <= 60:
            raise ConfigurationError(f"timeout is {self.timeout}; it must be between 0.05 and 60 seconds")

    def exchange(
        self,
        access_token: str,
        *,
        scopes: Sequence[str],
        details: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Transaction:
        """Return a new transaction for a request with this access token.

        `scopes` are those that the transaction needs, at most those of the access token. `details` describe it (`tctx`), and
        `context` its request (`rctx`); both are immutable from now on. Raises `ServiceError`, e.g. `SubjectTokenInvalidError` for
        an access token that is not valid now.
        """
        parameters = [
            ("grant_type", _GRANT_TYPE),
            ("requested_token_type", _TRANSACTION_TOKEN),
            ("audience", self.trust_domain),
            ("subject_token", access_token),
            ("subject_token_type", _ACCESS_TOKEN),
            ("scope", " ".join(scopes)),
        ]
        if details is not None:
            parameters.append(("request_details", strict_json.encode(details).decode()))
        if context is not None:
            parameters.append(("request_context", strict_json.encode(context).decode()))
        token = self.ask(parameters, self.timeout).tokens.access_token
        return Transaction(token, _transaction_id(token))

    async def exchange_async(
        self,
        access_token: str,
        *,
        scopes: Sequence[str],
        details: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Transaction:
        """Do what `exchange` does, in another thread."""
        return await asyncio.to_thread(
            self.exchange, access_token, scopes=scopes, details=details, context=context
        )

    @contextmanager
    def transaction(
        self,
        access_token: str,
        *,
        scopes: Sequence[str],
        details: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> Iterator[Transaction]:
        """Exchange an access token. Calls inside the block carry the transaction."""
        transaction = self.exchange(access_token, scopes=scopes, details=details, context=context)
        before = TRANSACTION.set(transaction)
        try:
            yield transaction
        finally:
            TRANSACTION.reset(before)

    @asynccontextmanager
    async def transaction_async(
        self,
        access_token: str,
        *,
        scopes: Sequence[str],
        details: Mapping[str, Any] | None = None,
        context: Mapping[str, Any] | None = None,
    ) -> AsyncIterator[Transaction]:
        """Exchange an access token without blocking the event loop. Calls inside the block carry the transaction."""
        transaction = await self.exchange_async(access_token, scopes=scopes, details=details, context=context)
        before = TRANSACTION.set(transaction)
        try:
            yield transaction
        finally:
            TRANSACTION.reset(before)


def _transaction_id(token: str) -> str:
    """Return `txn`. It is not verified: the token comes from the token endpoint, and this side only names it."""
    try:
        txn = strict_json.decode_object(base64url.decode(token.split(".")[1].encode("ascii"))).get("txn")
    except (ValueError, IndexError):
        txn = None
    if not isinstance(txn, str):
        raise InternalError("the token endpoint answered a token that is not a transaction token")
    return txn
