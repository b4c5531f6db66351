"""Makes JWTs: access tokens (RFC 9068), ID tokens (OpenID Connect Core 1.0, section 2) and transaction tokens."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from token_service.core.clients.pairwise import PairwiseSubjects
from token_service.core.entropy import Entropy
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.signer import Signer
from token_service.errors import InvalidRequestError
from token_service.tokens import base64url, strict_json
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import MAX_NUMERIC_DATE, AuthContext, Confirmation
from token_service.tokens.verifier import MAX_TOKEN_BYTES

LOGOUT_EVENT: Final = "http://schemas.openid.net/event/backchannel-logout"
_LOGOUT_TTL: Final = 120
"""Seconds: the most that the specification recommends."""
_TOKEN_ID_BYTES: Final = 16
_WIDEST_ID: Final = "x" * 36
"""A placeholder as long as a session id, which is longer than a token id."""
_MAX_PAYLOAD_BYTES: Final = 10_900
"""Payload limit that leaves room in `MAX_TOKEN_BYTES` for base64, a header, the `rev` and `sid` added later,
and the signature of an RSA key of 8192 bits.
"""
_SHORT: Final = 1000
"""Characters of audience and scopes that always fit if all other claims except custom ones have maximal length."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """The content of the tokens of one issue or refresh."""

    subject: str
    client_id: str
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    session_id: str
    revision: int
    """The head of the revocation log that the issuer had seen."""
    auth_context: AuthContext | None
    confirmation: Confirmation
    custom_claims: Mapping[str, Any]
    actor: Mapping[str, Any] | None = None
    """`act`: who acts for the subject; None: the subject itself."""


class Transaction(msgspec.Struct, frozen=True, kw_only=True):
    """What a transaction token says about its transaction, besides its grant."""

    transaction_id: str = ""
    """`txn` of the token that the new one replaces; empty: a new transaction begins."""
    requesters: tuple[str, ...] = ()
    """The clients that requested the replaced tokens, the first one first."""
    request_context: Mapping[str, Any] = {}
    """`rctx`: the environment of the request."""
    details: Mapping[str, Any] = {}
    """`tctx`: the details of the operation."""


class MintedToken(msgspec.Struct, frozen=True):
    """A signed JWT. `expire_time` is its `exp`."""

    token: str
    token_id: str
    expire_time: int

    def __repr__(self) -> str:
        return f"<MintedToken token_id={self.token_id!r}>"


class Minter:
    """Signs tokens with the key that is active."""

    def __init__(self, issuer: str, keyring: Keyring, entropy: Entropy, subjects: PairwiseSubjects) -> None:
        self._issuer = issuer
        self._subjects = subjects
        self._keyring = keyring
        self._entropy = entropy
        self._headers: dict[tuple[str, str], bytes] = {}

    async def access_token(self, grant: Grant, now: float, ttl: int) -> MintedToken:
        """Make an access token that lives `ttl` seconds from `now`."""
        token_id = base64url.encode(self._entropy(_TOKEN_ID_BYTES))
        claims = self._access_claims(grant, token_id, int(now), ttl)
        return MintedToken(await self._sign("at+jwt", claims), token_id, claims["exp"])

    async def id_token(
        self, grant: Grant, now: float, ttl: int, *, nonce: str, access_token: str
    ) -> MintedToken:
        """Make an ID token for the client; `at_hash` binds it to the access token of the same response."""
        token_id = base64url.encode(self._entropy(_TOKEN_ID_BYTES))
        claims = self._id_claims(grant, token_id, int(now), ttl, nonce, access_token)
        return MintedToken(await self._sign("JWT", claims), token_id, claims["exp"])

    async def transaction_token(
        self, grant: Grant, transaction: Transaction, now: float, ttl: int
    ) -> MintedToken:
        """Make a transaction token (draft-ietf-oauth-transaction-tokens-10, section 8) for one audience.

        Raises `InvalidRequestError` if it would be longer than validators accept.
        """
        token_id = transaction.transaction_id or base64url.encode(self._entropy(_TOKEN_ID_BYTES))
        claims = self._transaction_claims(grant, transaction, token_id, int(now), ttl)
        if len(strict_json.encode(claims)) > _MAX_PAYLOAD_BYTES:
            raise _too_long("request_details")
        return MintedToken(await self._sign("txntoken+jwt", claims), token_id, claims["exp"])

    async def logout_token(self, client_id: str, subject: str, session_id: str, now: float) -> str:
        """Make a logout token for a client (OpenID Connect Back-Channel Logout 1.0, section 2.4).

        Its `sub` and `sid` are those of the ID tokens of the session. Raises the errors of `PairwiseSubjects.require`.
        """
        claims = {
            "iss": self._issuer,
            "sub": self._subjects.sub(client_id, subject),
            "aud": client_id,
            "exp": int(now) + _LOGOUT_TTL,
            "iat": int(now),
            "jti": base64url.encode(self._entropy(_TOKEN_ID_BYTES)),
            "events": {LOGOUT_EVENT: {}},
            "sid": session_id,
        }
        return await self._sign("logout+jwt", claims)

    async def security_event_token(self, claims: Mapping[str, Any]) -> str:
        """Sign the claims of a security event token (RFC 8417), which have neither `exp` nor `sub`.

        Its type keeps it from being accepted as another token of this service.
        """
        return await self._sign("secevent+jwt", dict(claims))

    def require_fit(self, grant: Grant, *, with_id_token: bool, nonce: str) -> None:
        """Raise `InvalidRequestError` if a token of this grant would be longer than validators accept.

        Raises the errors of `PairwiseSubjects.require`, too.
        """
        if with_id_token:
            self._subjects.require(grant.client_id)
        if not grant.custom_claims and sum(map(len, grant.audience)) + sum(map(len, grant.scopes)) < _SHORT:
            return
        payload = self._access_claims(grant, _WIDEST_ID, MAX_NUMERIC_DATE, 0)
        size = len(strict_json.encode(payload))
        if with_id_token:
            payload = self._id_claims(grant, _WIDEST_ID, MAX_NUMERIC_DATE, 0, nonce, _WIDEST_ID)
            size = max(size, len(strict_json.encode(payload)))
        if size > _MAX_PAYLOAD_BYTES:
            raise _too_long("custom_claims")

    def _access_claims(self, grant: Grant, token_id: str, issued: int, ttl: int) -> dict[str, Any]:
        # `VerifiedClaims` are read fastest in this order.
        claims: dict[str, Any] = {
            "iss": self._issuer,
            "sub": grant.subject,
            "aud": grant.audience[0] if len(grant.audience) == 1 else grant.audience,
            "exp": issued + ttl,
            "iat": issued,
            "nbf": issued,
            "jti": token_id,
            "client_id": grant.client_id,
            "rev": grant.revision,
        }
        if grant.scopes:
            claims["scope"] = " ".join(grant.scopes)
        if grant.session_id:
            claims["sid"] = grant.session_id
        context = _auth_claims(grant.auth_context) if grant.auth_context is not None else None
        if context is not None:
            claims["auth_ctx"] = context
        _confirm(claims, grant.confirmation)
        if context is not None:
            # By the names that other validators know (RFC 9068, section 2.2.1), as step-up needs (RFC 9470, section 6.2).
            claims.update({name: context[name] for name in ("auth_time", "acr") if name in context})
        if grant.actor is not None:
            claims["act"] = grant.actor
        claims.update(grant.custom_claims)
        return claims

    def _transaction_claims(
        self, grant: Grant, transaction: Transaction, token_id: str, issued: int, ttl: int
    ) -> dict[str, Any]:
        claims: dict[str, Any] = {
            **grant.custom_claims,
            "iss": self._issuer,
            "sub": grant.subject,
            "aud": grant.audience[0],
            "exp": issued + ttl,
            "iat": issued,
            "txn": token_id,
            "req_wl": grant.client_id,
            "rev": grant.revision,
            "scope": " ".join(grant.scopes),
        }
        if grant.session_id:
            claims["sid"] = grant.session_id
        if grant.auth_context is not None:
            claims["auth_ctx"] = _auth_claims(grant.auth_context)
        if grant.actor is not None:
            claims["act"] = grant.actor
        if transaction.requesters:
            claims["req_wl_chain"] = transaction.requesters
        if transaction.request_context:
            claims["rctx"] = transaction.request_context
        if transaction.details:
            claims["tctx"] = transaction.details
        return claims

    def _id_claims(
        self, grant: Grant, token_id: str, issued: int, ttl: int, nonce: str, access_token: str
    ) -> dict[str, Any]:
        claims: dict[str, Any] = {
            "iss": self._issuer,
            **self._subjects.claims(grant.client_id, grant.subject, token_id),
            "aud": grant.client_id,
            "azp": grant.client_id,
            "exp": issued + ttl,
            "iat": issued,
            "jti": token_id,
            "rev": grant.revision,
        }
        if grant.session_id:
            claims["sid"] = grant.session_id
        if nonce:
            claims["nonce"] = nonce
        if access_token:
            claims["at_hash"] = _left_half_hash(access_token, self._keyring.signer().algorithm)
        if grant.auth_context is not None:
            claims.update(_auth_claims(grant.auth_context))
        claims.update(grant.custom_claims)
        return claims

    async def _sign(self, typ: str, claims: dict[str, Any]) -> str:
        signer = self._keyring.signer()
        payload = base64url.encode(strict_json.encode(claims)).encode()
        signing_input = self._header(signer, typ) + payload
        signature = await signer.sign(signing_input)
        return f"{signing_input.decode()}.{base64url.encode(signature)}"

    def _header(self, signer: Signer, typ: str) -> bytes:
        header = self._headers.get((signer.key_id, typ))
        if header is None:
            content = {"alg": signer.algorithm.value, "typ": typ, "kid": signer.key_id}
            header = base64url.encode(strict_json.encode(content)).encode() + b"."
            self._headers[signer.key_id, typ] = header
        return header


def _too_long(field: str) -> InvalidRequestError:
    return InvalidRequestError.of(
        field, f"with the other claims makes a token longer than the {MAX_TOKEN_BYTES} bytes validators take"
    )


def _auth_claims(context: AuthContext) -> dict[str, Any]:
    claims: dict[str, Any] = {}
    if context.auth_time is not None:
        claims["auth_time"] = context.auth_time
    if context.acr:
        claims["acr"] = context.acr
    if context.amr:
        claims["amr"] = context.amr
    return claims


def _confirm(claims: dict[str, Any], confirmation: Confirmation) -> None:
    if confirmation.jkt:
        claims["cnf"] = {"jkt": confirmation.jkt}
    elif confirmation.x5t_s256:
        claims["cnf"] = {"x5t#S256": confirmation.x5t_s256}


def _left_half_hash(token: str, algorithm: Algorithm) -> str:
    """Return `at_hash` (OpenID Connect Core 1.0, section 3.1.3.6): the left half of the signature's hash.

    Ed25519 uses SHA-512 internally.
    """
    digest = hashlib.sha512 if algorithm is Algorithm.EDDSA else hashlib.sha256
    value = digest(token.encode()).digest()
    return base64url.encode(value[: len(value) // 2])
