"""FastAPI dependencies that require a valid access token (RFC 6750, RFC 9449). Needs `pip install fastapi`.

    app = FastAPI(lifespan=lifespan)  # enters the validator
    protect(app, validator)


    @app.get("/orders")
    async def orders(claims: Annotated[VerifiedClaims, Depends(require("orders:read"))]) -> list[Order]: ...

A refused request ends with an `HTTPException` that carries `WWW-Authenticate`. A WebSocket is refused before it is
accepted.
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Collection
from dataclasses import replace
from functools import partial
from typing import Any, Final, TypeVar, overload

import msgspec
from fastapi import FastAPI, HTTPException, Response, Security, WebSocketException
from fastapi.datastructures import Headers
from fastapi.requests import HTTPConnection
from fastapi.security import HTTPBearer, SecurityScopes
from fastapi.security.base import SecurityBase
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.dataclasses import is_pydantic_dataclass

from token_service.client._internal.http_gate import DOCUMENT_HEADERS, HttpGate
from token_service.client._internal.http_refusals import Refusal
from token_service.client._internal.http_request import BadRequestError
from token_service.client._internal.route_rules import Route
from token_service.client.asgi import POLICY_VIOLATION, TRY_AGAIN_LATER, header, http_request
from token_service.client.proof_rules import ProofRules
from token_service.client.requirements import Requirements
from token_service.client.resource_metadata import ResourceMetadata
from token_service.client.validator import TokenValidator
from token_service.errors import ConfigurationError, InvalidTokenError, ServiceError
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.strict_json import encode

__all__ = ["ACCESS_TOKEN", "protect", "require"]

_T = TypeVar("_T")
_STATE: Final = "token_service_protection"

ACCESS_TOKEN: Final = HTTPBearer(bearerFormat="JWT", scheme_name="accessToken", auto_error=False)
"""The security scheme in the OpenAPI document, unless `require` is given another one."""


class _Protection:
    """What the dependencies of one application share."""

    def __init__(self, validator: TokenValidator, gate: HttpGate, audience: str | None) -> None:
        self.validator = validator
        self.gate = gate
        self.audience = audience


def protect(
    app: FastAPI,
    validator: TokenValidator,
    *,
    audience: str | None = None,
    realm: str = "",
    resource_metadata: ResourceMetadata | str | None = None,
    proofs: ProofRules | None = None,
    allow_bound_tokens: bool = False,
) -> None:
    """Let the dependencies of an application use a validator. An application that is mounted in another one needs it, too.

    The arguments mean the same as those of `BearerAuthMiddleware`. The caller enters the validator, e.g. in the lifespan.
    """
    gate = HttpGate(
        realm=realm,
        resource_metadata=resource_metadata,
        proofs=proofs,
        allow_bound_tokens=allow_bound_tokens,
    )
    setattr(app.state, _STATE, _Protection(validator, gate, audience))
    if isinstance(resource_metadata, ResourceMetadata):

        async def document() -> Response:
            return Response(gate.document, headers=dict(DOCUMENT_HEADERS))

        app.add_api_route(resource_metadata.path, document, methods=["GET", "HEAD"], include_in_schema=False)


@overload
def require(
    *scopes: str,
    roles: Collection[str] = ...,
    groups: Collection[str] = ...,
    entitlements: Collection[str] = ...,
    acr_values: Collection[str] = ...,
    max_age: float | None = ...,
    audience: str | None = ...,
    issuer: str | None = ...,
    scheme: SecurityBase = ...,
) -> Callable[..., Awaitable[VerifiedClaims]]: ...


@overload
def require(
    *scopes: str,
    claims: type[_T],
    roles: Collection[str] = ...,
    groups: Collection[str] = ...,
    entitlements: Collection[str] = ...,
    acr_values: Collection[str] = ...,
    max_age: float | None = ...,
    audience: str | None = ...,
    issuer: str | None = ...,
    scheme: SecurityBase = ...,
) -> Callable[..., Awaitable[_T]]: ...


def require(
    *scopes: str,
    claims: type[Any] | None = None,
    roles: Collection[str] = (),
    groups: Collection[str] = (),
    entitlements: Collection[str] = (),
    acr_values: Collection[str] = (),
    max_age: float | None = None,
    audience: str | None = None,
    issuer: str | None = None,
    scheme: SecurityBase = ACCESS_TOKEN,
) -> Callable[..., Awaitable[Any]]:
    """Return a dependency that admits requests with a token that meets the requirements, and returns its claims.

    The requirements are those of `Requirements`; scopes of `Security(require(…), scopes=[…])` are required, too. `claims`
    is a dataclass, a msgspec Struct or a pydantic model: the dependency returns the claims of the token as this type, and
    refuses a token whose claims do not fit it with 403. `scheme` describes the dependency in the OpenAPI document, e.g. an
    `OAuth2AuthorizationCodeBearer` with the URLs of the authorization server; it checks nothing.
    """
    requirements = Requirements(
        scopes=scopes,
        audience=audience,
        issuer=issuer,
        roles=roles,
        groups=groups,
        entitlements=entitlements,
        acr_values=acr_values,
        max_age=max_age,
    )
    return _Required(requirements, None if claims is None else _Typed(claims), scheme)


class _Required:
    """The dependency. FastAPI reads its parameters from `__signature__`."""

    def __init__(self, requirements: Requirements, typed: _Typed | None, scheme: SecurityBase) -> None:
        self._requirements = requirements
        self._typed = typed
        self._routes: dict[tuple[str | None, frozenset[str]], Route] = {}
        keyword = inspect.Parameter.KEYWORD_ONLY
        documented = Security(_Documented(scheme), scopes=sorted(requirements.scopes))
        self.__signature__ = inspect.Signature(
            [
                inspect.Parameter("connection", keyword, annotation=HTTPConnection),
                inspect.Parameter("security_scopes", keyword, annotation=SecurityScopes),
                inspect.Parameter("documented", keyword, annotation=None, default=documented),
            ]
        )

    async def __call__(
        self, *, connection: HTTPConnection, security_scopes: SecurityScopes, documented: None
    ) -> Any:
        scope = connection.scope
        protection: _Protection | None = getattr(connection.app.state, _STATE, None)
        if protection is None:
            raise ConfigurationError("the application has no validator; call protect(app, validator)")
        route = self._route(protection.audience, security_scopes.scopes)
        validator, gate = protection.validator, protection.gate
        try:
            token, scheme = gate.credentials(partial(header, scope))
            claims = await validator.validate(token, audience=route.audience, required_scopes=route.scopes)
            gate.transaction(token, claims)
            gate.admit(claims, token, scheme, route.more, scope, http_request, validator)
        except (BadRequestError, InvalidTokenError, ServiceError) as error:
            raise _exception(connection, gate.refuse(error, route.requirements)) from None
        if self._typed is None:
            result: Any = claims
        else:
            try:
                result = self._typed.convert(claims)
            except _UnfitError as error:
                raise _exception(connection, gate.challenger.unfit_claims(str(error))) from None
        scope["token_claims"] = claims
        return result

    def _route(self, audience: str | None, more_scopes: Collection[str]) -> Route:
        key = audience, frozenset(more_scopes)
        if key not in self._routes:  # one for each place in the code that uses the dependency
            own = self._requirements
            scopes = frozenset(own.scopes).union(more_scopes)
            self._routes[key] = Route(replace(own, scopes=scopes), audience)
        return self._routes[key]


class _Documented(SecurityBase):
    """A security scheme that is in the OpenAPI document and checks nothing."""

    def __init__(self, scheme: SecurityBase) -> None:
        self.model = scheme.model
        self.scheme_name = scheme.scheme_name

    async def __call__(self) -> None:
        pass


class _UnfitError(Exception):
    pass


class _Typed:
    """A type for the claims of tokens."""

    def __init__(self, kind: type[Any]) -> None:
        self._kind = kind
        is_pydantic = is_pydantic_dataclass(kind) or issubclass(kind, BaseModel)
        self._adapter: TypeAdapter[Any] | None = TypeAdapter(kind) if is_pydantic else None

    def convert(self, claims: VerifiedClaims) -> Any:
        """Return the claims as this type. Raises `_UnfitError`, which names the claims but no values."""
        try:
            if self._adapter is not None:
                # As JSON: a strict model takes lists for tuples and texts for times from JSON alone.
                return self._adapter.validate_json(encode(claims.payload))
            return msgspec.convert(claims.payload, self._kind)
        except ValidationError as error:
            places = {
                ".".join(map(str, each["loc"])): each["type"]
                for each in error.errors(include_input=False, include_url=False, include_context=False)
            }
            found = ", ".join(f"{place or 'all'}: {kind}" for place, kind in places.items())
        except msgspec.ValidationError as error:
            found = str(error)
        raise _UnfitError(f"the claims of the token do not fit this route: {found}")


def _exception(connection: HTTPConnection, refusal: Refusal) -> Exception:
    scope = connection.scope
    if scope["type"] == "websocket" and "websocket.http.response" not in (scope.get("extensions") or {}):
        code = TRY_AGAIN_LATER if refusal.status == 503 else POLICY_VIOLATION
        return WebSocketException(code, refusal.body)
    # `Headers` keeps two challenges apart, which a dictionary can't.
    headers = (("cache-control", "no-store"), *refusal.headers)
    raw = [(name.encode("ascii"), value.encode("latin-1")) for name, value in headers]
    return HTTPException(refusal.status, refusal.body, headers=Headers(raw=raw))
