"""`POST /introspect` (RFC 7662)."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from token_service.core.issuing.issuer import token_type
from token_service.core.sessions.session import Session
from token_service.core.validation.introspector import Introspection, Introspector, OpaqueClaims
from token_service.tokens import strict_json
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind, VerifiedClaims
from token_service.web.oauth.client_authentication import HttpCallers
from token_service.web.oauth.errors import NO_STORE
from token_service.web.oauth.parameters import read_form

_INACTIVE: Final = strict_json.encode({"active": False})
_OWN: Final = frozenset(
    {"active", "token_type", "token_use", "username", "auth_ctx", "rev", "nonce", "at_hash", "azp"}
)
"""Claims that are not copied: the response gives these names a meaning of its own, or no recipient needs them."""


class IntrospectionEndpoint:
    """The introspection endpoint. It answers what ValidateToken answers for the same token at the same time."""

    def __init__(self, callers: HttpCallers, introspector: Introspector, issuer: str) -> None:
        self._callers = callers
        self._introspector = introspector
        self._issuer = issuer

    async def answer(self, request: Request) -> Response:
        """Answer a request. Raises `ServiceError`, but never because of the token.

        `token_type_hint` is ignored: the text of a token tells its kind (RFC 7662, section 2.1).
        """
        parameters = await read_form(request)
        caller = await self._callers.caller(request, parameters)
        found = await self._introspector.introspect(caller, parameters.required("token"))
        return Response(self._encode(found), media_type="application/json", headers=NO_STORE)

    def _encode(self, found: Introspection) -> bytes:
        match found.claims:
            case VerifiedClaims() as claims:
                return strict_json.encode(jwt_members(claims))
            case OpaqueClaims(kind, session):
                return strict_json.encode(opaque_members(kind, session, self._issuer))
        return _INACTIVE  # without the reason: it would tell a thief how to go on (RFC 7662, section 2.2)


def jwt_members(claims: VerifiedClaims) -> dict[str, Any]:
    """Return the response for an active JWT: its claims under their own names, and what RFC 7662 adds."""
    body = _members(claims.kind, claims.client_id, claims.auth_context, claims.confirmation)
    for name, value in claims.payload.items():
        if name not in _OWN and value is not None and value != "":
            body[name] = value
    return body


def opaque_members(kind: TokenKind, session: Session, issuer: str) -> dict[str, Any]:
    """Return the response for an active refresh or session token."""
    body = _members(kind, session.client_id, session.auth_context, session.confirmation)
    confirmation = {
        name: value
        for name, value in (("jkt", session.confirmation.jkt), ("x5t#S256", session.confirmation.x5t_s256))
        if value
    }
    body |= {
        "iss": issuer,
        "sub": session.subject,
        "aud": session.audience[0] if len(session.audience) == 1 else session.audience,
        "exp": int(min(session.idle_expire_time, session.absolute_expire_time)),
        "iat": int(session.create_time),
        "sid": str(session.id),
    }
    if session.scopes:
        body["scope"] = " ".join(session.scopes)
    if confirmation:
        body["cnf"] = confirmation
    for name, value in session.custom_claims.items():
        if name not in _OWN and value is not None:
            body.setdefault(name, value)
    return body


def _members(
    kind: TokenKind, client_id: str, context: AuthContext | None, confirmation: Confirmation
) -> dict[str, Any]:
    """Return the members that do not have the name of their claim.

    `token_use` tells the kind. A recipient must check it: RFC 7662 has the same response for a refresh token.
    """
    body: dict[str, Any] = {"active": True, "token_use": f"{kind.name.lower()}_token"}
    if client_id:
        body["client_id"] = client_id
    if kind is TokenKind.ACCESS:
        body["token_type"] = token_type(confirmation)
    if context is not None:
        if context.acr:
            body["acr"] = context.acr
        if context.amr:
            body["amr"] = context.amr
        if context.auth_time is not None:
            body["auth_time"] = context.auth_time
    return body
