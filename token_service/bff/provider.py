"""The provider as the backend-for-frontend uses it: discovery, keys, and the token endpoint."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

from token_service.bff.browser_origin import NO_HEADERS
from token_service.bff.config import Provider
from token_service.bff.discovery import ProviderMetadata, parse_metadata
from token_service.bff.failures import GrantRefusedError, ProviderUnavailableError
from token_service.bff.held import Held
from token_service.bff.provider_tokens import (
    Expected,
    LogoutToken,
    id_token_claims,
    logout_token_claims,
)
from token_service.bff.transport import Answer, Transport
from token_service.client._internal.keys import log_refused_keys, parse_jwks
from token_service.clock import Clock
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.key_set import KeySet

MAX_TOKEN: Final = 16 * 1024
"""Characters of a token that the provider issues."""
DEFAULT_TOKEN_LIFETIME: Final = 300.0
"""Seconds for which an access token without `expires_in` counts as valid."""
_MAX_LIFETIME: Final = 31 * 86400.0
_REFUSALS: Final = frozenset({"invalid_grant", "insufficient_user_authentication"})
"""Errors after which only a new login helps. The second one demands a newer authentication (RFC 9470, section 3)."""

logger = logging.getLogger(__name__)
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class TokenAnswer:
    """A success of the token endpoint."""

    access_token: str = field(repr=False)
    lifetime: float
    """Seconds, counted from before the request was sent."""
    refresh_token: str | None = field(repr=False)
    id_token: str | None = field(repr=False)


class OpenIdProvider:
    """One provider. The caller closes it."""

    def __init__(self, config: Provider, clock: Clock) -> None:
        self._config = config
        self._clock = clock
        # A provider that trusts this application as a proxy would otherwise take its own requests for plain ones.
        scheme = {"X-Forwarded-Proto": config.issuer.partition(":")[0]} if config.tells_origin else {}
        self._transport = Transport(config.timeout, config.tls, scheme)
        self._metadata = Held(self._fetch_metadata, clock)
        self._keys = Held(self._fetch_keys, clock)
        self._expected = Expected(config.issuer, config.client.client_id)

    async def metadata(self) -> ProviderMetadata:
        """Return the metadata. Raises `ProviderUnavailableError`."""
        return await self._metadata.get()

    async def authorization_url(self, parameters: Mapping[str, str]) -> str:
        """Return the URL that begins a login. Raises `ProviderUnavailableError`."""
        metadata = await self.metadata()
        request: dict[str, Any] = {
            **self._config.parameters,
            "client_id": self._config.client.client_id,
            "response_type": "code",
            "scope": " ".join(self._config.scopes),
            **parameters,
        }
        if self._config.resources:
            request["resource"] = list(self._config.resources)
        if metadata.requires_pushed_requests:
            answer = await self._post(metadata.pushed_authorization_request_endpoint, request)
            request_uri = answer.json().get("request_uri") if answer.status == 201 else None
            if not isinstance(request_uri, str):
                raise self._refused(answer)
            request = {"client_id": self._config.client.client_id, "request_uri": request_uri}
        separator = "&" if "?" in metadata.authorization_endpoint else "?"
        return f"{metadata.authorization_endpoint}{separator}{urlencode(request, doseq=True)}"

    async def redeem(
        self, code: str, redirect_uri: str, verifier: str, origin: Mapping[str, str] = NO_HEADERS
    ) -> TokenAnswer:
        """Exchange a code, with the headers about the browser. Raises `GrantRefusedError` or `ProviderUnavailableError`."""
        return await self._grant(
            {
                "grant_type": "authorization_code",
                "code": code,
                "redirect_uri": redirect_uri,
                "code_verifier": verifier,
            },
            origin,
        )

    async def refresh(self, refresh_token: str, origin: Mapping[str, str] = NO_HEADERS) -> TokenAnswer:
        """Exchange a refresh token, with the headers about the browser.

        Raises `GrantRefusedError`, also if the user must log in again, or `ProviderUnavailableError`.
        """
        return await self._grant({"grant_type": "refresh_token", "refresh_token": refresh_token}, origin)

    async def revoke(self, refresh_token: str) -> None:
        """Revoke a refresh token (RFC 7009), if the provider can. Raises `ProviderUnavailableError`."""
        endpoint = (await self.metadata()).revocation_endpoint
        if endpoint:
            answer = await self._post(endpoint, {"token": refresh_token, "token_type_hint": "refresh_token"})
            if answer.status != 200:
                raise self._refused(answer)

    async def id_token_claims(self, token: str, *, nonce: str | None) -> dict[str, Any]:
        """Return the claims of an ID token. Raises `InvalidTokenError` or `ProviderUnavailableError`."""
        return await self._with_keys(
            lambda keys: id_token_claims(token, keys, self._expected, nonce=nonce, now=self._clock.now())
        )

    async def logout_token_claims(self, token: str) -> LogoutToken:
        """Return the claims of a logout token. Raises `InvalidTokenError` or `ProviderUnavailableError`."""
        return await self._with_keys(
            lambda keys: logout_token_claims(token, keys, self._expected, now=self._clock.now())
        )

    async def aclose(self) -> None:
        """Cancel fetches and close the connections."""
        await self._metadata.aclose()
        await self._keys.aclose()
        await self._transport.aclose()

    async def _with_keys(self, verify: Callable[[KeySet], T]) -> T:
        """Verify with the keys that are known and, for an unknown one, with newer keys."""
        try:
            return verify(await self._keys.get())
        except InvalidTokenError as error:
            if error.reason is not InvalidReason.UNKNOWN_KEY:
                raise
        return verify(await self._keys.newer())

    async def _grant(self, form: dict[str, Any], origin: Mapping[str, str]) -> TokenAnswer:
        if self._config.resources:
            form["resource"] = list(self._config.resources)
        answer = await self._post((await self.metadata()).token_endpoint, form, origin)
        if answer.status == 200:
            return _tokens(answer)
        if answer.status in {400, 401}:
            code = answer.object().get("error")
            if code in _REFUSALS:
                raise GrantRefusedError("the provider refused the grant")
        raise self._refused(answer)

    async def _post(
        self, url: str, form: Mapping[str, Any], headers: Mapping[str, str] = NO_HEADERS
    ) -> Answer:
        proof = await self._config.client.prove(self._config.issuer, self._clock.now())
        fields = {"client_id": self._config.client.client_id} if proof.form else {}
        return await self._transport.post(url, {**form, **fields, **proof.form}, {**headers, **proof.headers})

    def _refused(self, answer: Answer) -> ProviderUnavailableError:
        """Return the error for an answer that is the fault of the provider or of the configuration.

        Only the first kind passes by itself, but neither is a reason to log users out.
        """
        code = ""
        if 400 <= answer.status < 500 and answer.status != 429:
            try:
                code = str(answer.object().get("error", ""))[:40]
            except ProviderUnavailableError:
                code = ""
            logger.error(
                "the provider %s refused a request with status %d (%s); check the client's registration and secret",
                self._config.issuer,
                answer.status,
                ascii(code),
            )
        return ProviderUnavailableError(
            f"the provider answered with status {answer.status}", retry_after=answer.retry_after
        )

    async def _fetch_metadata(self) -> ProviderMetadata:
        url = f"{self._config.issuer.rstrip('/')}/.well-known/openid-configuration"
        document = _success(await self._transport.get(url)).json()
        return self._logged(lambda: parse_metadata(document, self._config.issuer, self._config.client.method))

    async def _fetch_keys(self) -> KeySet:
        answer = _success(await self._transport.get((await self.metadata()).jwks_uri))
        try:
            keys = KeySet.from_jwks(parse_jwks(answer.body))
        except ValueError:
            raise ProviderUnavailableError("the provider's key set can't be used") from None
        log_refused_keys(self._config.issuer, keys)
        return keys

    def _logged(self, parse: Callable[[], T]) -> T:
        try:
            return parse()
        except ProviderUnavailableError as error:
            logger.error("the provider %s can't be used: %s", self._config.issuer, error.message)  # noqa: TRY400
            raise


def _success(answer: Answer) -> Answer:
    if answer.status != 200:
        raise ProviderUnavailableError(
            f"the provider answered with status {answer.status}", retry_after=answer.retry_after
        )
    return answer


def _tokens(answer: Answer) -> TokenAnswer:
    """Return the tokens of a success (RFC 6749, section 5.1)."""
    body = answer.json()
    if str(body.get("token_type", "")).lower() != "bearer":
        raise ProviderUnavailableError("the provider issued tokens of another type than Bearer")
    access_token = _token(body, "access_token")
    if access_token is None:
        raise ProviderUnavailableError("the provider issued no access token")
    lifetime = body.get("expires_in", DEFAULT_TOKEN_LIFETIME)
    if type(lifetime) not in {int, float} or not lifetime > 0:
        raise ProviderUnavailableError("expires_in of the provider is not a number of seconds")
    return TokenAnswer(
        access_token,
        min(float(lifetime), _MAX_LIFETIME),
        _token(body, "refresh_token"),
        _token(body, "id_token"),
    )


def _token(body: dict[str, Any], name: str) -> str | None:
    value = body.get(name)
    if value is None:
        return None
    if (
        not isinstance(value, str)
        or not 0 < len(value) <= MAX_TOKEN
        or not value.isascii()
        or not value.isprintable()
    ):
        raise ProviderUnavailableError(f"the provider issued an unusable {name}")
    return value
