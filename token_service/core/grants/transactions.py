"""Transaction tokens (draft-ietf-oauth-transaction-tokens-10): the transaction that a new one belongs to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from token_service.core.grants.presented import PresentedToken, not_accepted
from token_service.core.issuing.minter import Transaction
from token_service.core.limits import MAX_ACTORS, MAX_REQUEST_CONTEXT, MAX_REQUEST_CONTEXT_DEPTH
from token_service.errors import InvalidRequestError
from token_service.tokens import strict_json
from token_service.tokens.claims import TokenKind

CONTEXT_CLAIMS = frozenset({"txn", "req_wl", "req_wl_chain", "rctx", "tctx"})
"""Claims that only the transaction decides, never another claim of the subject token."""


def transaction_of(subject: PresentedToken, request_context: str, request_details: str) -> Transaction:
    """Return the transaction of a new token.

    The parameters are JSON objects (section 9.1). If the subject token is a transaction token, its transaction goes on:
    its context may gain members, but keeps the ones that it has (section 14.13).

    Raises `InvalidRequestError`, and `SubjectTokenInvalidError` after `MAX_ACTORS` replacements.
    """
    replaced = subject.kind is TokenKind.TRANSACTION
    held = subject.claims if replaced else {}
    requesters = (*held.get("req_wl_chain", ()), subject.client_id) if replaced else ()
    if len(requesters) > MAX_ACTORS:
        raise not_accepted(
            "subject_token", "ACTORS", f"a transaction token is replaced at most {MAX_ACTORS} times"
        )
    return Transaction(
        transaction_id=subject.token_id if replaced else "",
        requesters=requesters,
        request_context=_joined("request_context", held.get("rctx", {}), request_context),
        details=_joined("request_details", held.get("tctx", {}), request_details),
    )


def _joined(parameter: str, held: Mapping[str, Any], text: str) -> Mapping[str, Any]:
    if not text:
        return held
    if len(text.encode()) > MAX_REQUEST_CONTEXT:
        raise InvalidRequestError.of(parameter, f"is longer than {MAX_REQUEST_CONTEXT} bytes")
    try:
        added = strict_json.decode_object(text.encode())
        strict_json.require_depth(added, MAX_REQUEST_CONTEXT_DEPTH)
    except ValueError:
        raise InvalidRequestError.of(
            parameter, f"is not a JSON object of at most {MAX_REQUEST_CONTEXT_DEPTH} levels"
        ) from None
    for name, value in added.items():
        if name in held and held[name] != value:
            raise InvalidRequestError.of(
                parameter, "changes a member of the transaction, which are immutable"
            )
    joined = {**held, **added}
    if len(strict_json.encode(joined)) > MAX_REQUEST_CONTEXT:
        raise InvalidRequestError.of(
            parameter, f"and the transaction are longer than {MAX_REQUEST_CONTEXT} bytes together"
        )
    return joined
