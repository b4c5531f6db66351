"""gRPC server interceptors that require a valid token for each call whose method is not public.

    grpc.aio.server(interceptors=[AioAuthInterceptor(validator, AuthRules(scopes={"/shop.Orders/Cancel": ["orders:write"]}))])

A handler reads the claims from `current_claims()`. The interceptor checks a token when its call begins; the
handler must end a stream that lasts longer than its token.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

import grpc

from token_service.client._internal.bearer import (
    CLAIMS,
    bearer_token,
    current_claims,
    refusal_status,
    require_bearer,
)
from token_service.client._internal.handlers import in_context_of_call, preceded_by
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.errors import (
    CallerUnauthenticatedError,
    ConfigurationError,
    InvalidTokenError,
    ReplicaStaleError,
    ServiceError,
)
from token_service.tokens.claims import VerifiedClaims

__all__ = ["AioAuthInterceptor", "AuthInterceptor", "AuthRules", "current_claims"]


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthRules:
    """Scopes that each method needs.

    A rule names one method, `/package.Service/Method`, or all methods of a service, `/package.Service/*`. The
    rule of a method has priority over the rule of its service. A method without a rule needs a valid token and
    `default_scopes`.
    """

    scopes: Mapping[str, Collection[str]] = field(default_factory=dict)
    """Required scopes by rule. A token must have all of them."""
    default_scopes: Collection[str] = ()
    public: Collection[str] = ()
    """Methods that need no token, e.g. `/grpc.health.v1.Health/*`. The interceptor ignores a token sent to them."""
    audience: str | None = None
    """Replacement for the audience of the validator."""
    allow_bound_tokens: bool = False
    """Accept tokens bound to a key (`cnf`) without proof that the caller has the key.

    For handlers that check the proof themselves.
    """

    def __post_init__(self) -> None:
        for name in (*self.scopes, *self.public):
            if name.count("/") != 2 or not name.startswith("/") or name.endswith("/"):
                raise ConfigurationError(f"{name!r} is not /package.Service/Method or /package.Service/*")
        for name, scopes in (*self.scopes.items(), ("default_scopes", self.default_scopes)):
            if isinstance(scopes, str):
                raise ConfigurationError(f"the scopes of {name} must be a collection, not one string")
        both = set(self.scopes) & set(self.public)
        if both:
            raise ConfigurationError(f"{min(both)} is public and needs scopes; remove one rule")

    def required(self, method: str) -> frozenset[str] | None:
        """Return the scopes a method needs, or None if it is public."""
        for name in (method, f"{method.rpartition('/')[0]}/*"):
            if name in self.public:
                return None
            if name in self.scopes:
                return frozenset(self.scopes[name])
        return frozenset(self.default_scopes)


class _RefusedError(Exception):
    def __init__(self, error: InvalidTokenError | ServiceError) -> None:
        super().__init__(error.message)
        self.status = refusal_status(error)


class _Gate:
    """Checks of both interceptors before and after the validation of the token."""

    def __init__(self, rules: AuthRules) -> None:
        self.rules = rules
        self._required: dict[str, frozenset[str] | None] = {}

    def required(self, method: str) -> frozenset[str] | None:
        try:
            return self._required[method]
        except KeyError:
            required = self.rules.required(method)
            if len(self._required) < 1024:  # a caller may ask for methods that do not exist
                self._required[method] = required
            return required

    @staticmethod
    def token(metadata: Any) -> str:
        headers = [value for name, value in metadata or () if name == "authorization"]
        token = bearer_token(headers[0]) if len(headers) == 1 and isinstance(headers[0], str) else None
        if token is None:
            said = (
                "the call has more than one authorization"
                if len(headers) > 1
                else "the call has no bearer token in authorization"
            )
            raise _RefusedError(CallerUnauthenticatedError(said))
        return token

    def admit(self, claims: VerifiedClaims) -> None:
        if not self.rules.allow_bound_tokens:
            require_bearer(claims)
        CLAIMS.set(claims)


class AioAuthInterceptor(grpc.aio.ServerInterceptor):
    """Interceptor for `grpc.aio.server`."""

    def __init__(self, validator: TokenValidator, rules: AuthRules | None = None) -> None:
        self._validator = validator
        self._gate = _Gate(rules or AuthRules())

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the call, or a handler that refuses the call."""
        gate = self._gate
        required = gate.required(handler_call_details.method)
        if required is not None:
            try:
                token = gate.token(handler_call_details.invocation_metadata)
                gate.admit(
                    await self._validator.validate(
                        token, audience=gate.rules.audience, required_scopes=required
                    )
                )
            except _RefusedError as refused:
                return _refuse_async(refused)
            except (InvalidTokenError, ReplicaStaleError) as error:
                return _refuse_async(_RefusedError(error))
        handler = await continuation(handler_call_details)
        return handler if required is None or handler is None else in_context_of_call(handler)


class AuthInterceptor(grpc.ServerInterceptor):
    """Interceptor for `grpc.server`.

    gRPC intercepts all calls of a server in one thread, so the interceptor does not wait for the network in this
    thread. Local state decides about most tokens at once. The interceptor settles other tokens in the thread of the
    handler, before the handler runs; later interceptors then see the call before its token is settled.
    """

    def __init__(
        self, validator: SyncTokenValidator, rules: AuthRules | None = None, *, max_waiting: int = 8
    ) -> None:
        """Configure the interceptor.

        `max_waiting` limits the server threads that wait for the token service concurrently; further calls are
        refused UNAVAILABLE at once. Choose fewer than the server has threads: while the token service does not
        answer, the other threads serve calls that need not wait.
        """
        if max_waiting < 1:
            raise ConfigurationError(f"AuthInterceptor.max_waiting is {max_waiting}; it must be at least 1")
        self._validator = validator
        self._gate = _Gate(rules or AuthRules())
        self._waiting = threading.BoundedSemaphore(max_waiting)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the call, or a handler that refuses the call."""
        gate = self._gate
        required = gate.required(handler_call_details.method)
        if required is None:
            return continuation(handler_call_details)
        try:
            token = gate.token(handler_call_details.invocation_metadata)
            claims = self._validator.validate_locally(
                token, audience=gate.rules.audience, required_scopes=required
            )
            if claims is not None:
                gate.admit(claims)
        except _RefusedError as refused:
            return _refuse(refused)
        except InvalidTokenError as error:
            return _refuse(_RefusedError(error))
        handler = continuation(handler_call_details)
        if claims is not None:
            return handler
        if handler is None:
            handler = grpc.stream_stream_rpc_method_handler(
                _not_found
            )  # only callers with a valid token reach this handler

        def settle(context: grpc.ServicerContext) -> None:
            try:
                gate.admit(self._settle(token, required))
            except (InvalidTokenError, ReplicaStaleError) as error:
                _abort(_RefusedError(error), context)

        return preceded_by(settle, handler)

    def _settle(self, token: str, required: frozenset[str]) -> VerifiedClaims:
        if not self._waiting.acquire(blocking=False):
            raise ReplicaStaleError("too many calls already wait for the token service; retry later")
        try:
            return self._validator.validate(
                token, audience=self._gate.rules.audience, required_scopes=required
            )
        finally:
            self._waiting.release()


# A handler for streams in both directions can refuse calls of every kind, because it ends the call before it reads a
# request.


def _refuse(refused: _RefusedError) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.stream_stream_rpc_method_handler(lambda _, context: _abort(refused, context))


def _abort(refused: _RefusedError, context: grpc.ServicerContext) -> NoReturn:
    code, details, trailers = refused.status
    context.set_trailing_metadata(trailers)
    context.abort(code, details)


def _not_found(_: Any, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _refuse_async(refused: _RefusedError) -> grpc.RpcMethodHandler[Any, Any]:
    code, details, trailers = refused.status

    async def abort(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(code, details, trailers)

    return grpc.stream_stream_rpc_method_handler(abort)
