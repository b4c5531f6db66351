"""The transaction of the request being served."""

from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Final

from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.claims import TokenKind, VerifiedClaims

TXN_TOKEN: Final = "txn-token"  # the name of a header
"""The header and the metadata of a transaction token (draft-ietf-oauth-transaction-tokens, section 10)."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """A transaction token that further calls carry."""

    token: str = field(repr=False)
    """Never log it: its holder acts in the transaction."""
    transaction_id: str
    """`txn`. To revoke the transaction, revoke this token id."""


TRANSACTION: Final[ContextVar[Transaction | None]] = ContextVar("token_service_transaction", default=None)


def current_transaction() -> Transaction:
    """Return the transaction of the request being served.

    Raises `LookupError` outside of a request with a transaction token.
    """
    transaction = TRANSACTION.get()
    if transaction is None:
        raise LookupError("the request being served has no transaction token")
    return transaction


def transaction_of(token: str, claims: VerifiedClaims, trust_domain: str) -> Transaction | None:
    """Return the transaction of a request; None where access tokens are needed, because no `trust_domain` is configured.

    Raises `InvalidTokenError` for a token of the other kind.
    """
    if trust_domain:
        if claims.kind is not TokenKind.TRANSACTION:
            raise InvalidTokenError(InvalidReason.WRONG_TYPE, "the token is not a transaction token")
        return Transaction(token, claims.token_id)
    if claims.kind is TokenKind.TRANSACTION:
        raise InvalidTokenError(
            InvalidReason.WRONG_TYPE, "a transaction token is not accepted here; present an access token"
        )
    return None
