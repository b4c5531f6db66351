"""`POST /introspect` (RFC 7662)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from token_service.core.issuing.issuer import token_type
from token_service.core.sessions.session import Session
from token_service.core.validation.introspector import Introspection, Introspector, OpaqueClaims
from token_service.tokens import strict_json
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind, VerifiedClaims
from token_service.tokens.verified_cache import CacheEntry, TokenCache
from token_service.web.edge import UNCACHED
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.parameters import read_form

_ENCODED_CAPACITY: Final = 10_000
_INACTIVE: Final = strict_json.encode({"active": False})
_OWN: Final = frozenset({"active", "token_type", "token_use", "username"})
"""Names of custom claims that are left out, because they mean something else in the response."""


class IntrospectionEndpoint:
    """The introspection endpoint. It answers what ValidateToken answers for the same token at the same time."""

    def __init__(self, callers: HttpCallers, introspector: Introspector, issuer: str) -> None:
        self._callers = callers
        self._introspector = introspector
        self._issuer = issuer
        self._encoded: TokenCache[tuple[CacheEntry, bytes]] = TokenCache(_ENCODED_CAPACITY)
        """Cache entry of the introspector and encoded response by active JWT."""

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`, but never because of the token.

        `token_type_hint` is ignored: the text of a token tells its kind (RFC 7662, section 2.1). A transaction token is
        inactive here, as for a ValidateToken that does not ask for one: its recipients know its kind.
        """
        parameters = await read_form(request)
        caller = await self._callers.caller(request, parameters)
        token = parameters.required("token")
        found = await self._introspector.introspect(caller, token)
        return Response(self._encode(token, found), media_type="application/json", headers=UNCACHED)

    def _encode(self, token: str, found: Introspection) -> bytes:
        match found.claims:
            case VerifiedClaims() as claims:
                assert found.entry is not None
                known = self._encoded.get(token)
                if known is None or known[0] is not found.entry:
                    known = found.entry, strict_json.encode(jwt_members(claims))
                    self._encoded.put(token, known)
                return known[1]
            case OpaqueClaims(kind, session):
                return strict_json.encode(opaque_members(kind, session, self._issuer))
        return _INACTIVE  # without the reason: it would tell a thief how to go on (RFC 7662, section 2.2)


def jwt_members(claims: VerifiedClaims) -> dict[str, Any]:
    """Return the response for an active JWT."""
    return _members(
        claims.kind,
        claims.confirmation,
        claims.auth_context,
        {
            "iss": claims.issuer,
            "sub": claims.subject,
            "aud": _one_or_all(claims.audience),
            "client_id": claims.client_id,
            "scope": claims.payload.get("scope"),
            "exp": int(claims.expire_time),
            "iat": int(claims.issue_time),
            "nbf": int(claims.not_before) or None,
            "jti": claims.token_id,
            "sid": claims.session_id,
            "act": claims.actor,
        },
        claims.custom_claims,
    )


def opaque_members(kind: TokenKind, session: Session, issuer: str) -> dict[str, Any]:
    """Return the response for an active refresh or session token."""
    return _members(
        kind,
        session.confirmation,
        session.auth_context,
        {
            "iss": issuer,
            "sub": session.subject,
            "aud": _one_or_all(session.audience),
            "client_id": session.client_id,
            "scope": " ".join(session.scopes),
            "exp": int(min(session.idle_expire_time, session.absolute_expire_time)),
            "iat": int(session.create_time),
            "sid": str(session.id),
        },
        session.custom_claims,
    )


def _members(
    kind: TokenKind,
    confirmation: Confirmation,
    context: AuthContext | None,
    members: Mapping[str, Any],
    custom_claims: Mapping[str, Any],
) -> dict[str, Any]:
    """Return the members of a response; those without a value are left out.

    `token_use` tells the kind. A recipient must check it: RFC 7662 has the same response for a refresh token.
    """
    body: dict[str, Any] = {"active": True, "token_use": f"{kind.name.lower()}_token"}
    if kind is TokenKind.ACCESS:
        body["token_type"] = token_type(confirmation)
    body.update((name, value) for name, value in members.items() if value is not None and value != "")
    if context is not None:
        found = {"acr": context.acr, "amr": context.amr, "auth_time": context.auth_time}
        body.update((name, value) for name, value in found.items() if value or value == 0)
    if confirmation:
        cnf = {"jkt": confirmation.jkt, "x5t#S256": confirmation.x5t_s256}
        body["cnf"] = {name: value for name, value in cnf.items() if value}
    for name, value in custom_claims.items():
        if name not in _OWN and value is not None:
            body.setdefault(name, value)
    return body


def _one_or_all(audience: Sequence[str]) -> str | Sequence[str]:
    return audience[0] if len(audience) == 1 else audience
