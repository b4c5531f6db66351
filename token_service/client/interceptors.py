"""gRPC server interceptors that require a valid token for each call whose method is not public.

    grpc.aio.server(interceptors=[AioAuthInterceptor(validator, AuthRules(scopes={"/shop.Orders/Cancel": ["orders:write"]}))])

A handler reads the claims from `current_claims()`. The interceptor checks a token when its call begins; the
handler must end a stream that lasts longer than its token.
"""

from __future__ import annotations

import threading
from collections.abc import Awaitable, Callable
from typing import Any, NoReturn

import grpc

from token_service.client._internal.bearer import CLAIMS, current_claims
from token_service.client._internal.grpc_gate import Call, GrpcGate
from token_service.client._internal.grpc_refusals import RefusedError
from token_service.client._internal.handlers import (
    in_context_of_call,
    is_async,
    preceded_by,
    preceded_by_async,
)
from token_service.client._internal.transaction import TRANSACTION
from token_service.client.auth_rules import AuthRules
from token_service.client.sync_validator import SyncTokenValidator
from token_service.client.validator import TokenValidator
from token_service.errors import ConfigurationError, InvalidTokenError, OverloadedError, ReplicaStaleError
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.possession import Scheme

__all__ = ["AioAuthInterceptor", "AuthInterceptor", "AuthRules", "current_claims"]

_BEARER = Scheme.BEARER
_OF_TOKEN = (InvalidTokenError, ReplicaStaleError, OverloadedError)


class AioAuthInterceptor(grpc.aio.ServerInterceptor):
    """Interceptor for `grpc.aio.server`."""

    def __init__(self, validator: TokenValidator, rules: AuthRules | None = None) -> None:
        self._validator = validator
        self._gate = GrpcGate(rules or AuthRules(), validator.counters)

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[grpc.RpcMethodHandler[Any, Any] | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the call, or a handler that refuses the call."""
        gate, method = self._gate, handler_call_details.method
        rule = gate.rule(method)
        if rule is None:
            return await continuation(handler_call_details)
        try:
            metadata = handler_call_details.invocation_metadata
            token, scheme = gate.token(rule, metadata)
            claims = await self._validator.validate(
                token, audience=rule.audience, required_scopes=rule.scopes
            )
            transaction = gate.transaction(token, claims)
            call = None
            if claims.confirmation or scheme is not _BEARER or rule.asks_more:
                call = Call(rule, method, metadata, scheme, token)
                if not gate.examine(call, claims):
                    call = None
        except RefusedError as refused:
            return _refuse_async(refused)
        except _OF_TOKEN as error:
            return _refuse_async(gate.refused(error, rule))
        CLAIMS.set(claims)
        TRANSACTION.set(transaction)
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        if call is not None:  # its client certificate remains to be checked
            handler = self._after_proof(call, claims, handler)
        return in_context_of_call(handler)

    def _after_proof(
        self, call: Call, claims: VerifiedClaims, handler: grpc.RpcMethodHandler[Any, Any]
    ) -> grpc.RpcMethodHandler[Any, Any]:
        gate = self._gate
        if not is_async(handler):
            return preceded_by(lambda context: _prove(gate, call, claims, context), handler)

        async def prove(context: grpc.aio.ServicerContext[Any, Any]) -> None:
            try:
                gate.prove(call, claims, context)
            except _OF_TOKEN as error:
                await context.abort(*gate.refused(error, call.rule).status)

        return preceded_by_async(prove, handler)


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
        self._gate = GrpcGate(rules or AuthRules(), validator.counters)
        self._waiting = threading.BoundedSemaphore(max_waiting)

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], grpc.RpcMethodHandler[Any, Any] | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> grpc.RpcMethodHandler[Any, Any] | None:
        """Return the handler of the call, or a handler that refuses the call."""
        gate, method = self._gate, handler_call_details.method
        rule = gate.rule(method)
        if rule is None:
            return continuation(handler_call_details)
        metadata = handler_call_details.invocation_metadata
        try:
            token, scheme = gate.token(rule, metadata)
            claims = self._validator.validate_locally(
                token, audience=rule.audience, required_scopes=rule.scopes
            )
            transaction = None if claims is None else gate.transaction(token, claims)
            call = None
            if claims is None or claims.confirmation or scheme is not _BEARER or rule.asks_more:
                call = Call(rule, method, metadata, scheme, token)
                if claims is not None and not gate.examine(call, claims):
                    call = None
        except RefusedError as refused:
            return _refuse(refused)
        except _OF_TOKEN as error:
            return _refuse(gate.refused(error, rule))
        if claims is not None:
            CLAIMS.set(claims)
            TRANSACTION.set(transaction)
        handler = continuation(handler_call_details)
        if call is None:
            return handler
        if claims is not None:  # its client certificate remains to be checked
            return handler and preceded_by(lambda context: _prove(gate, call, claims, context), handler)
        if handler is None:
            handler = grpc.stream_stream_rpc_method_handler(
                _not_found
            )  # only callers with a valid token reach this handler

        def settle(context: grpc.ServicerContext) -> None:
            try:
                settled = self._settle(call)
                begun = gate.transaction(call.token, settled)
                if gate.examine(call, settled):
                    gate.prove(call, settled, context)
                CLAIMS.set(settled)
                TRANSACTION.set(begun)
            except _OF_TOKEN as error:
                _abort(gate.refused(error, rule), context)

        return preceded_by(settle, handler)

    def _settle(self, call: Call) -> VerifiedClaims:
        if not self._waiting.acquire(blocking=False):
            raise ReplicaStaleError("too many calls already wait for the token service; retry later")
        try:
            return self._validator.validate(
                call.token, audience=call.rule.audience, required_scopes=call.rule.scopes
            )
        finally:
            self._waiting.release()


def _prove(gate: GrpcGate, call: Call, claims: VerifiedClaims, context: grpc.ServicerContext) -> None:
    try:
        gate.prove(call, claims, context)
    except _OF_TOKEN as error:
        _abort(gate.refused(error, call.rule), context)


# A handler for streams in both directions can refuse calls of every kind, because it ends the call before it reads a
# request.


def _refuse(refused: RefusedError) -> grpc.RpcMethodHandler[Any, Any]:
    return grpc.stream_stream_rpc_method_handler(lambda _, context: _abort(refused, context))


def _abort(refused: RefusedError, context: grpc.ServicerContext) -> NoReturn:
    code, details, trailers = refused.status
    context.set_trailing_metadata(trailers)
    context.abort(code, details)


def _not_found(_: Any, context: grpc.ServicerContext) -> NoReturn:
    context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not found!")


def _refuse_async(refused: RefusedError) -> grpc.RpcMethodHandler[Any, Any]:
    code, details, trailers = refused.status

    async def abort(_: Any, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        await context.abort(code, details, trailers)

    return grpc.stream_stream_rpc_method_handler(abort)
