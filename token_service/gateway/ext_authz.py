"""`envoy.service.auth.v3.Authorization`, the external authorization of Envoy over gRPC."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final

import grpc

from token_service.client._internal.http_gate import is_preflight
from token_service.client._internal.http_refusals import Refusal
from token_service.gateway.certificates import Certificates
from token_service.gateway.checker import Checker
from token_service.gateway.envoy.attribute_context_pb2 import AttributeContext
from token_service.gateway.envoy.base_pb2 import HeaderValueOption
from token_service.gateway.envoy.external_auth_pb2 import CheckRequest, CheckResponse, DeniedHttpResponse
from token_service.gateway.identity import Identity, is_misleading
from token_service.gateway.metrics import Metrics
from token_service.gateway.request import ClientRequest
from token_service.gateway.verdict import Outcome, Verdict
from token_service.tokens.claims import VerifiedClaims

SERVICE: Final = "envoy.service.auth.v3.Authorization"
_OVERWRITE: Final = HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD
_CREDENTIALS: Final = ("authorization", "dpop")
_CODES: Final = {
    401: grpc.StatusCode.UNAUTHENTICATED.value[0],
    503: grpc.StatusCode.UNAVAILABLE.value[0],
}
_DENIED: Final = grpc.StatusCode.PERMISSION_DENIED.value[0]
_MAX_KNOWN: Final = 4096


class ExtAuthz:
    """The answers to Envoy, for one configuration."""

    def __init__(
        self,
        checker: Checker,
        identity: Identity,
        certificates: Certificates,
        *,
        unavailable: str = "error_response",
        remove_credentials: bool = False,
    ) -> None:
        """Configure the answers. `unavailable` is `error_response`, `denied_503` or `denied_403`."""
        self._checker = checker
        self._identity = identity
        self._certificates = certificates
        self._unavailable = unavailable
        self._removed = _CREDENTIALS if remove_credentials else ()
        self._without_claims = self._allow(None, None)
        # Most checks are of a token that was checked before, whose claims the validator then keeps. Claims are equal only to
        # themselves. Building a response takes as long as the rest of the check.
        self._young: dict[VerifiedClaims, bytes] = {}
        self._old: dict[VerifiedClaims, bytes] = {}

    async def check(self, request: CheckRequest) -> tuple[Verdict, bytes]:
        """Return the verdict on a request, and the encoded response."""
        verdict = await self._checker.check(self._request_of(request.attributes))
        return verdict, self._response(verdict)

    def _request_of(self, attributes: AttributeContext) -> ClientRequest:
        http = attributes.request.http
        headers: Any = http.headers
        if not headers and http.HasField("header_map"):
            headers = _joined(http.header_map.headers)
        method = http.method
        source = self._certificates
        return ClientRequest(
            method=method,
            path=http.path,
            host=http.host,
            scheme=http.scheme,
            authorization=headers.get("authorization"),
            dpop=headers.get("dpop"),
            is_preflight=is_preflight(method, headers.get),
            certificate=attributes.source.certificate
            if source.from_connection
            else headers.get(source.header, "")
            if source.header is not None
            else "",
            misleading=is_misleading(headers),
            texts=attributes.context_extensions,
        )

    def _response(self, verdict: Verdict) -> bytes:
        if verdict.outcome is Outcome.ALLOWED:
            claims = verdict.claims
            if claims is None:
                return self._without_claims
            if verdict.nonce is not None:
                return self._allow(claims, verdict.nonce)
            return self._young.get(claims) or self._build(claims)
        assert verdict.refusal is not None
        return self._refuse(verdict.refusal, is_unavailable=verdict.outcome is Outcome.UNAVAILABLE)

    def _build(self, claims: VerifiedClaims) -> bytes:
        response = self._old.get(claims) or self._allow(claims, None)
        if len(self._young) >= _MAX_KNOWN:
            self._old, self._young = self._young, {}
        self._young[claims] = response
        return response

    def _allow(self, claims: VerifiedClaims | None, nonce: str | None) -> bytes:
        response = CheckResponse()
        response.status.code = 0
        allowed = response.ok_response
        for name, value in self._identity.headers(claims).items():
            if value:
                _set(allowed.headers.add(), name, value)
            else:
                allowed.headers_to_remove.append(name)
        allowed.headers_to_remove.extend(self._removed)
        if nonce is not None:
            _set(allowed.response_headers_to_add.add(), "dpop-nonce", nonce)
        return response.SerializeToString()

    def _refuse(self, refusal: Refusal, *, is_unavailable: bool) -> bytes:
        response = CheckResponse()
        status = refusal.status
        denied: DeniedHttpResponse = response.denied_response
        if is_unavailable:
            if self._unavailable == "error_response":
                denied = response.error_response
            elif self._unavailable == "denied_403":
                status = 403
        response.status.code = _CODES.get(refusal.status, _DENIED)
        denied.status.code = status
        for name, value in (*refusal.headers, ("cache-control", "no-store")):
            _set(denied.headers.add(), name, value)
        denied.body = refusal.body
        return response.SerializeToString()


def handler(current: Callable[[], ExtAuthz], metrics: Metrics) -> grpc.GenericRpcHandler:
    """Return the handler for a gRPC server. `current` returns the answers of the configuration in use."""

    async def check(request: CheckRequest, _context: object) -> bytes:
        begin = time.perf_counter()
        verdict, response = await current().check(request)
        metrics.checked("grpc", verdict, time.perf_counter() - begin)
        return response

    method: grpc.RpcMethodHandler[Any, Any] = grpc.unary_unary_rpc_method_handler(
        check, request_deserializer=CheckRequest.FromString
    )
    return grpc.method_handlers_generic_handler(SERVICE, {"Check": method})


def _set(option: HeaderValueOption, name: str, value: str) -> None:
    option.header.key = name
    option.header.value = value
    option.append_action = _OVERWRITE


def _joined(headers: Any) -> dict[str, str]:
    """Return headers by name, several values joined with commas, as in the map that Envoy sends by default."""
    joined: dict[str, str] = {}
    for header in headers:
        name = header.key.lower()
        value = header.value or header.raw_value.decode("latin-1")
        joined[name] = f"{joined[name]},{value}" if name in joined else value
    return joined
