"""A client at an HTTP token endpoint (RFC 6749, section 3.2)."""

from __future__ import annotations

import ssl
import time
from base64 import b64encode
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import quote_plus, urlencode, urlsplit

from token_service.client._internal.http_fetch import HttpAnswer, post_form
from token_service.client._internal.server_nonces import ServerNonces
from token_service.client._internal.token_store import Tokens
from token_service.client._internal.trace_context import trace_headers
from token_service.client.config import LOOPBACK
from token_service.client.dpop_key import DpopKey
from token_service.errors import (
    ConfigurationError,
    InternalError,
    ProofNonceRequiredError,
    ServiceError,
    UnreachableError,
)
from token_service.tokens.secret import Secret
from token_service.tokens.strict_json import decode_object
from token_service.wire import error_from_oauth

_ASSERTION_TYPE: Final = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_MAX_ANSWER: Final = 256 * 1024
_MAX_LIFE: Final = 86_400.0 * 366


@dataclass(frozen=True, slots=True)
class Issued:
    """A new access token and its life in seconds, counted from before the call."""

    tokens: Tokens
    life: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenEndpoint:
    """A client at a token endpoint.

    It authenticates itself with `secret`, with `assertion`, or with the client certificate of `tls` (RFC 8705). A secret
    and an assertion may be functions, which each request calls: a secret that was rotated takes effect at once, and an
    assertion may be used only once.
    """

    token_url: str
    """`https://…`; plain `http` only to this machine. Redirects are not followed."""
    client_id: str
    secret: Secret | Callable[[], Secret] | None = field(default=None, repr=False)
    """Client secret, sent as `client_secret_basic`."""
    assertion: Callable[[], str] | None = field(default=None, repr=False)
    """Function that returns a new client assertion (`private_key_jwt`; RFC 7523, section 2.2)."""
    tls: ssl.SSLContext | None = field(default=None, repr=False)
    """TLS context of the connection, e.g. with a private authority or a client certificate."""
    dpop_key: DpopKey | None = None
    """Key to bind the tokens to (RFC 9449): each request proves it, with the nonce that the token endpoint asks for."""
    _nonces: ServerNonces = field(init=False, repr=False, compare=False, default_factory=ServerNonces)

    def __post_init__(self) -> None:
        url = urlsplit(self.token_url)
        if url.scheme != "https" and not (url.scheme == "http" and url.hostname in LOOPBACK):
            raise ConfigurationError("token_url must be an https URL")
        if not self.client_id:
            raise ConfigurationError("client_id is empty; set it as registered")
        if self.secret is not None and self.assertion is not None:
            raise ConfigurationError("the client has a secret or an assertion, not both")
        if self.secret is None and self.assertion is None and self.tls is None:
            raise ConfigurationError(
                "the client needs a secret, an assertion or a TLS context with a client certificate"
            )

    def ask(self, parameters: Sequence[tuple[str, str]], timeout: float) -> Issued:
        """Send a token request. Blocks for `timeout` seconds at most.

        Raises `ServiceError`: `UnreachableError` if the endpoint does not answer in time.
        """
        deadline = time.monotonic() + timeout
        used = self._nonces.get(self.token_url)
        answer = self._post(parameters, used, timeout)
        if answer.status != 200 and self.dpop_key is not None:
            failure, nonce = self._failure(answer), self._nonces.get(self.token_url)
            if isinstance(failure, ProofNonceRequiredError) and nonce != used:
                answer = self._post(parameters, nonce, max(0.01, deadline - time.monotonic()))
        if answer.status != 200:
            raise self._failure(answer)
        return self._issued(answer.body)

    def _post(self, parameters: Sequence[tuple[str, str]], nonce: str | None, timeout: float) -> HttpAnswer:
        headers, body = self._request(parameters)
        if self.dpop_key is not None:
            headers["DPoP"] = self.dpop_key.proof("POST", self.token_url, nonce=nonce)
        try:
            answer = post_form(self.token_url, body, headers, timeout, _MAX_ANSWER, self.tls)
        except (OSError, ValueError) as error:
            raise UnreachableError(f"the token endpoint {self._place} can't be reached: {error}") from error
        self._nonces.put(self.token_url, answer.dpop_nonce)
        return answer

    @property
    def _place(self) -> str:
        return urlsplit(self.token_url).netloc.rpartition("@")[2]

    def _request(self, parameters: Sequence[tuple[str, str]]) -> tuple[dict[str, str], bytes]:
        form = list(parameters)
        headers = {"Accept": "application/json", **dict(trace_headers())}
        if self.secret is not None:
            secret = self.secret if isinstance(self.secret, Secret) else self.secret()
            pair = f"{quote_plus(self.client_id)}:{quote_plus(secret.reveal())}"
            headers["Authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
        else:
            form.append(("client_id", self.client_id))
        if self.assertion is not None:
            form += [("client_assertion_type", _ASSERTION_TYPE), ("client_assertion", self.assertion())]
        return headers, urlencode(form).encode("ascii")

    def _failure(self, answer: HttpAnswer) -> ServiceError:
        try:
            members = decode_object(answer.body)
        except ValueError:
            members = {}  # of a proxy
        code, reason, message = (
            text if isinstance(text := members.get(name), str) else ""
            for name in ("error", "reason", "error_description")
        )
        return error_from_oauth(
            answer.status,
            code,
            reason,
            message or f"the token endpoint {self._place} answered {answer.status}",
            answer.retry_after,
        )

    def _issued(self, body: bytes) -> Issued:
        try:
            members = decode_object(body)
            token, kind, life = (members[name] for name in ("access_token", "token_type", "expires_in"))
            scope = members.get("scope", "")
        except (ValueError, KeyError):
            raise self._malformed() from None
        if not all(isinstance(text, str) for text in (token, kind, scope)) or not token:
            raise self._malformed()
        if type(life) not in {int, float} or not 0 < life <= _MAX_LIFE:
            raise self._malformed()
        now = time.time()
        tokens = Tokens(
            access_token=token,
            access_expire_time=now + life,
            refresh_token="",
            token_type=kind,
            scopes=tuple(scope.split()),
            receive_time=now,
        )
        return Issued(tokens, float(life))

    def _malformed(self) -> ServiceError:
        return InternalError(
            f"the answer of the token endpoint {self._place} lacks access_token, token_type or expires_in"
        )
