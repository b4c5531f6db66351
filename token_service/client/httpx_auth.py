"""httpx authentication with access tokens.

    client = httpx.AsyncClient(auth=TokenAuth(source))

This module needs httpx, which this package does not install.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Generator
from typing import Final, TypeAlias, cast

from token_service.client._internal.challenges import parse_challenges
from token_service.client._internal.proving import ProofOrder, is_bound, key_of
from token_service.client._internal.server_nonces import ServerNonces
from token_service.client._internal.source_protocols import (
    AccessTokens,
    SyncAccessTokens,
    is_for_event_loop,
    is_for_threads,
)
from token_service.client._internal.token_store import Tokens
from token_service.errors import ConfigurationError

try:
    import httpx
except ModuleNotFoundError as _missing:
    if _missing.name != "httpx":
        raise
    raise ModuleNotFoundError("TokenAuth needs httpx; install it: pip install httpx", name="httpx") from None


_MAX_ATTEMPTS: Final = 10
"""Requests that answer one request at most. A server that always asks for another nonce is not asked forever."""


class _NeedTokens:
    """Step: get the tokens of the source."""


_Step: TypeAlias = _NeedTokens | ProofOrder | httpx.Request
_Outcome: TypeAlias = Tokens | str | httpx.Response | None


class TokenAuth(httpx.Auth):
    """httpx authentication that adds `Authorization: Bearer …`, or `Authorization: DPoP …` with a DPoP proof.

    After a response 401 `invalid_token` it sends the request once more with a new token. A streamed body (an
    iterator, a file, a multipart form) can't be sent twice: the caller gets the 401, and the next request
    carries a new token.

    A token that is bound to a DPoP key (RFC 9449) is sent with a new proof in each request, made with the `dpop_key` of the
    source. If a server asks for a nonce, or redirects to another of its URIs, the request is sent once more with a proof
    for this. The newest nonce of each server is remembered. A redirect to another origin gets neither token nor proof.

    An `httpx.AsyncClient` needs a source for event loops, such as `TokenSource`; an `httpx.Client` needs one for
    threads, such as `SyncTokenSource`.
    """

    def __init__(self, source: AccessTokens | SyncAccessTokens) -> None:
        self._source = source
        self._nonces = ServerNonces()

    def sync_auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Authenticate a request of `httpx.Client`."""
        if not is_for_threads(self._source):
            raise ConfigurationError("httpx.Client needs a source for threads, such as SyncTokenSource")
        steps = self._steps(request)
        outcome: _Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration:
                return
            if isinstance(step, httpx.Request):
                outcome = yield step
            elif isinstance(step, ProofOrder):
                outcome = step.make()
            else:
                outcome = self._source.tokens()

    async def async_auth_flow(self, request: httpx.Request) -> AsyncGenerator[httpx.Request, httpx.Response]:
        """Authenticate a request of `httpx.AsyncClient`."""
        if not is_for_event_loop(self._source):
            raise ConfigurationError("httpx.AsyncClient needs a source for event loops, such as TokenSource")
        steps = self._steps(request)
        outcome: _Outcome = None
        while True:
            try:
                step = steps.send(outcome)
            except StopIteration:
                return
            if isinstance(step, httpx.Request):
                outcome = yield step
            elif isinstance(step, ProofOrder):
                outcome = await step.make_async()
            else:
                outcome = await self._source.tokens()

    def _steps(self, request: httpx.Request) -> Generator[_Step, _Outcome, None]:
        """Yield the steps of the attempts of one request."""
        tokens = cast("Tokens", (yield _NeedTokens()))
        is_renewed = False
        for _ in range(_MAX_ATTEMPTS):
            bound, nonce = is_bound(tokens), None
            request.headers["Authorization"] = f"{'DPoP' if bound else 'Bearer'} {tokens.access_token}"
            if bound:
                nonce = self._nonces.get(_origin(request.url))
                order = ProofOrder.of(key_of(self._source), request.method, _uri(request.url), tokens, nonce)
                request.headers = _ProvenHeaders(request.headers, cast("str", (yield order)))
            response = cast("httpx.Response", (yield request))
            answered = response.request
            if answered.headers.get("Authorization") != request.headers["Authorization"]:
                return  # httpx drops the token on a redirect to another origin
            new_nonce = response.headers.get("DPoP-Nonce") if bound else None
            self._nonces.put(_origin(answered.url), new_nonce)
            if response.status_code != httpx.codes.UNAUTHORIZED:
                return
            error = _error_of(response, "dpop" if bound else "bearer")
            if bound and answered is not request:
                request = answered  # after a redirect within the origin, which httpx sends without a proof
            elif not (error == "use_dpop_nonce" and new_nonce is not None and new_nonce != nonce):
                if error != "invalid_token" or is_renewed:
                    return
                is_renewed = True
                self._source.invalidate(tokens.access_token)
                if _can_be_repeated(request):
                    tokens = cast("Tokens", (yield _NeedTokens()))
            if not _can_be_repeated(request):
                return


class _ProvenHeaders(httpx.Headers):
    """Headers of a request with its proof, which belongs to this request alone.

    httpx copies the headers of a request to that of a redirect, except `Authorization`. The proof is not among the headers
    that it copies, so no other URI and no other host gets it.
    """

    def __init__(self, headers: httpx.Headers, proof: str) -> None:
        others = httpx.Headers(headers, headers.encoding)
        others.pop("DPoP", None)
        super().__init__(others, others.encoding)
        self._proof = proof

    @property
    def raw(self) -> list[tuple[bytes, bytes]]:
        """The headers, as transports send them."""
        return [*super().raw, (b"DPoP", self._proof.encode("ascii"))]

    def multi_items(self) -> list[tuple[str, str]]:
        return [*super().multi_items(), ("dpop", self._proof)]

    def __getitem__(self, key: str) -> str:
        return self._proof if key.lower() == "dpop" else super().__getitem__(key)


def _origin(url: httpx.URL) -> str:
    return f"{url.scheme}://{url.netloc.decode('ascii')}"


def _uri(url: httpx.URL) -> str:
    """Return the URI of a request without user information and query."""
    return _origin(url) + url.raw_path.partition(b"?")[0].decode("ascii")


def _error_of(response: httpx.Response, scheme: str) -> str | None:
    """Return the error of the challenge with a scheme, in lower case: the first one that a response has."""
    return next(
        (
            parameters["error"]
            for named, parameters in parse_challenges(response.headers.get("WWW-Authenticate", ""))
            if named == scheme and "error" in parameters
        ),
        None,
    )


def _can_be_repeated(request: httpx.Request) -> bool:
    """Return whether the whole body is in memory."""
    return isinstance(request.stream, httpx.ByteStream)
