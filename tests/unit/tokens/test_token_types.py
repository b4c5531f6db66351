"""No kind of JWT passes as another one: the `typ` of a token and the kinds that a verifier accepts."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.hostile_tokens import NOW
from tests.support.token_mint import ISSUER, Mint
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.key_set import KeySet
from token_service.tokens.verifier import IssuerRules, Verifier

MINT = Mint("EdDSA")
KEYS = KeySet.from_jwks([MINT.jwk])
BOTH: dict[str, Any] = {"txn": "tx-1", "req_wl": "gateway"}
"""Claims that make an access token a transaction token as well, so that only `typ` tells them apart."""
KINDS: dict[Any, TokenKind | None] = {
    "at+jwt": TokenKind.ACCESS,
    "application/at+jwt": TokenKind.ACCESS,
    "AT+JWT": TokenKind.ACCESS,
    "JWT": TokenKind.ID,
    "application/jwt": TokenKind.ID,
    "txntoken+jwt": TokenKind.TRANSACTION,
    "application/txntoken+jwt": TokenKind.TRANSACTION,
    "TxnToken+JWT": TokenKind.TRANSACTION,
    "txn_token": None,
    "txntoken": None,
    "txntoken+jwt ": None,
    "N_A": None,
    "secevent+jwt": None,
    "": None,
    1: None,
    ...: None,
}
ACCEPTED = [
    frozenset({kind}) for kind in (TokenKind.ACCESS, TokenKind.ID, TokenKind.TRANSACTION, TokenKind.REFRESH)
] + [frozenset({TokenKind.ACCESS, TokenKind.ID}), frozenset({TokenKind.ACCESS, TokenKind.TRANSACTION})]


def verify(token: str, kinds: frozenset[TokenKind]) -> VerifiedClaims:
    return Verifier([(IssuerRules(ISSUER, frozenset(Algorithm), kinds), KEYS)]).verify(token)


@pytest.mark.parametrize("accepted", ACCEPTED, ids=lambda kinds: "+".join(sorted(k.name for k in kinds)))
@pytest.mark.parametrize("typ", KINDS, ids=repr)
def test_typ_alone_decides_the_kind(typ: Any, accepted: frozenset[TokenKind]) -> None:
    token = MINT.token(NOW, {"typ": typ}, **BOTH)
    if KINDS[typ] in accepted:
        assert verify(token, accepted).kind is KINDS[typ]
        return
    with pytest.raises(InvalidTokenError) as refused:
        verify(token, accepted)
    assert refused.value.reason is InvalidReason.WRONG_TYPE


def test_rules_accept_no_transaction_token_by_default() -> None:
    with pytest.raises(InvalidTokenError) as refused:
        Verifier([(IssuerRules(ISSUER, frozenset(Algorithm)), KEYS)]).verify(
            MINT.token(NOW, {"typ": "txntoken+jwt"}, **BOTH)
        )
    assert refused.value.reason is InvalidReason.WRONG_TYPE


@pytest.mark.parametrize("plain", [TokenKind.ACCESS, TokenKind.ID])
def test_issuer_with_plain_access_tokens_gives_no_transaction_tokens(plain: TokenKind) -> None:
    kinds = frozenset({TokenKind.ACCESS})
    rules = IssuerRules(ISSUER, frozenset(Algorithm), kinds, plain, typ_required=False)
    with pytest.raises(InvalidTokenError) as refused:
        Verifier([(rules, KEYS)]).verify(MINT.token(NOW, {"typ": "txntoken+jwt"}, **BOTH))
    assert refused.value.reason is InvalidReason.WRONG_TYPE


def test_transaction_token_has_the_transaction_and_the_workload_of_its_own_claims() -> None:
    token = MINT.token(NOW, {"typ": "txntoken+jwt"}, **BOTH, tctx={"a": 1}, act={"sub": "bob"})
    claims = verify(token, frozenset({TokenKind.TRANSACTION}))
    assert (claims.token_id, claims.client_id) == ("tx-1", "gateway")  # not `jti` and `client_id`
    assert (claims.custom_claims, claims.actor) == ({"tctx": {"a": 1}}, {"sub": "bob"})
    access = verify(MINT.token(NOW, **BOTH), frozenset({TokenKind.ACCESS}))
    assert access.client_id == "web"
    assert access.custom_claims == BOTH  # other kinds may use the names freely


@pytest.mark.parametrize("name", ["iss", "sub", "aud", "exp", "iat", "txn", "req_wl", "scope"])
@pytest.mark.parametrize("value", [..., None, [1], {}], ids=["missing", "null", "list", "object"])
def test_transaction_token_without_a_required_claim_is_malformed(name: str, value: Any) -> None:
    token = MINT.token(NOW, {"typ": "txntoken+jwt"}, **{**BOTH, name: value})
    with pytest.raises(InvalidTokenError) as refused:
        verify(token, frozenset({TokenKind.TRANSACTION}))
    assert refused.value.reason is InvalidReason.MALFORMED


@pytest.mark.parametrize("name", BOTH)
def test_transaction_token_with_an_empty_id_is_malformed(name: str) -> None:
    """No revocation could name it."""
    token = MINT.token(NOW, {"typ": "txntoken+jwt"}, **{**BOTH, name: ""})
    with pytest.raises(InvalidTokenError) as refused:
        verify(token, frozenset({TokenKind.TRANSACTION}))
    assert refused.value.reason is InvalidReason.MALFORMED


@pytest.mark.parametrize("act", [..., None, "bob", ["bob"], 1])
def test_actor_that_is_no_object_is_none(act: Any) -> None:
    assert verify(MINT.token(NOW, act=act), frozenset({TokenKind.ACCESS})).actor is None
