"""An OpenID Connect provider over HTTP: an adapter of the port `Provider`."""

from __future__ import annotations

import asyncio
import logging
from base64 import b64encode
from collections.abc import Awaitable, Mapping
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar
from urllib.parse import quote_plus

from token_service.clock import Clock
from token_service.core.access.key_sources import KeySource
from token_service.core.login.oidc_provider import ProviderMetadata, ProviderRefusedError
from token_service.core.login.oidc_settings import OidcSettings
from token_service.errors import UpstreamUnavailableError
from token_service.fetching.addresses import Target
from token_service.fetching.documents import lifetime_of
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import Answer, FetchRules, HttpFetcher
from token_service.files import read_regular
from token_service.tokens import strict_json
from token_service.tokens.key_set import KeySet
from token_service.urls import UnusableValueError

UPSTREAM_TIMEOUT: Final = 5.0
"""Seconds for one request to the provider, with the look-up of its address."""
UPSTREAM_LAST_GOOD: Final = 3600.0
"""Seconds for which the last metadata stay in force after their lifetime, while the provider can't be reached."""
UPSTREAM_RETRY: Final = 1.0
"""Seconds between two attempts to load the metadata."""
MAX_SECRET: Final = 4096
_MAX_CAUSE: Final = 300
_MAX_CODE: Final = 64

logger = logging.getLogger(__name__)

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class _Held:
    metadata: ProviderMetadata
    lifetime: float
    since: float


class HttpProvider:
    """One provider. Its metadata are loaded at the first login and kept as long as it allows within limits."""

    def __init__(
        self, settings: OidcSettings, keys: KeySource, clock: Clock, *, fetcher: HttpFetcher | None = None
    ) -> None:
        """Raises `UnusableValueError` for an issuer that is not a usable URL."""
        if "?" in settings.issuer:
            raise UnusableValueError("it has a query, which an issuer must not have")
        Target.parse(settings.issuer, allow_private=settings.private)
        self._settings = settings
        self._keys = keys
        self._clock = clock
        self._fetcher = fetcher or HttpFetcher()  # of its own: a slow provider must not delay another one
        self._rules = FetchRules(
            allow_private=settings.private, authorities=Path(settings.ca_file) if settings.ca_file else None
        )
        self._held: _Held | None = None
        self._loading: asyncio.Task[None] | None = None
        self._next_load = float("-inf")
        self._complaint = ""

    async def discover(self) -> ProviderMetadata:
        """See `Provider.discover`."""
        held = self._held
        if held is None or self._age(held) >= held.lifetime:
            if self._loading is None and self._clock.monotonic() >= self._next_load:
                # The load belongs to no call: a cancelled one must not end it for the others.
                self._loading = asyncio.create_task(self._load(), name="discover", context=Context())
                self._loading.add_done_callback(self._loaded)
            if self._loading is not None:
                await asyncio.wait([self._loading])
            held = self._held
        if held is None or self._age(held) >= held.lifetime + UPSTREAM_LAST_GOOD:
            raise UpstreamUnavailableError(retry_after=UPSTREAM_RETRY)
        return held.metadata

    async def exchange(self, form: Mapping[str, str]) -> Mapping[str, Any]:
        """See `Provider.exchange`."""
        metadata = await self.discover()
        answer = await self._bounded(
            self._post(metadata.token_endpoint, form), "the token endpoint can't be used"
        )
        if answer.status not in {200, 400, 401}:  # RFC 6749, section 5.2
            self._complain(f"the token endpoint answered with status {answer.status}")
            raise UpstreamUnavailableError
        body = self._object(answer, "the token endpoint")
        if answer.status == 200:
            self._recovered()
            return body
        code = body.get("error")
        code = code if isinstance(code, str) else ""
        if code != "invalid_grant":
            self._complain(f"the token endpoint answered with the error {code[:_MAX_CODE] or answer.status}")
        raise ProviderRefusedError(code)

    async def userinfo(self, access_token: str) -> Mapping[str, Any]:
        """See `Provider.userinfo`."""
        endpoint = (await self.discover()).userinfo_endpoint
        if not endpoint or not access_token.isascii() or not access_token.isprintable():
            self._complain(
                "there is no userinfo endpoint, or the access token is none (RFC 6750, section 2.1)"
            )
            raise UpstreamUnavailableError
        answer = await self._bounded(
            self._fetcher.get(endpoint, self._rules, authorization=f"Bearer {access_token}"),
            "the userinfo endpoint can't be used",
        )
        return self._object(answer, "the userinfo endpoint")

    async def keys(self, key_id: str | None) -> KeySet:
        """See `Provider.keys`."""
        return await self._keys.keys(key_id)

    async def _post(self, url: str, form: Mapping[str, str]) -> Answer:
        secret = await asyncio.to_thread(read_secret, self._settings.client_secret_file)
        # RFC 6749, section 2.3.1: both parts are form-encoded first.
        pair = f"{quote_plus(self._settings.client_id)}:{quote_plus(secret)}".encode()
        return await self._fetcher.post(
            url, form, self._rules, authorization=f"Basic {b64encode(pair).decode()}"
        )

    async def _load(self) -> None:
        since = self._clock.monotonic()
        issuer = self._settings.issuer
        url = f"{issuer.removesuffix('/')}/.well-known/openid-configuration"
        try:
            answer = await self._bounded(self._fetcher.get(url, self._rules), "discovery failed")
            document = self._object(answer, "the discovery document")
        except UpstreamUnavailableError:
            return
        try:
            metadata = ProviderMetadata.of(document, issuer)
            for each in (metadata.authorization_endpoint, metadata.token_endpoint):
                Target.parse(each, allow_private=self._settings.private)
            for each in (metadata.userinfo_endpoint, metadata.end_session_endpoint):
                if each:
                    Target.parse(each, allow_private=self._settings.private)
        except ValueError as error:
            self._complain(f"its discovery document can't be used: {error}")
            return
        self._held = _Held(metadata, lifetime_of(answer.cache_control, answer.age), since)
        self._recovered()

    def _loaded(self, load: asyncio.Task[None]) -> None:
        self._loading = None
        self._next_load = self._clock.monotonic() + UPSTREAM_RETRY
        if not load.cancelled() and (error := load.exception()) is not None:
            self._complain(f"{type(error).__name__}: {error}")

    def _age(self, held: _Held) -> float:
        return self._clock.monotonic() - held.since

    async def _bounded(self, work: Awaitable[_T], what: str) -> _T:
        """Return the result of a request. Raises `UpstreamUnavailableError`; the log gets the cause."""
        try:
            async with asyncio.timeout(UPSTREAM_TIMEOUT):
                return await work
        except TimeoutError:
            cause = f"no complete answer within {UPSTREAM_TIMEOUT:g} s"
        except FetchError as error:
            cause = str(error)
        self._complain(f"{what}: {cause}")
        raise UpstreamUnavailableError

    def _object(self, answer: Answer, name: str) -> dict[str, Any]:
        try:
            return strict_json.decode_object(answer.body)
        except ValueError:  # its text may repeat parts of the answer, which may have a token
            self._complain(f"{name} is not a JSON object without duplicate names")
            raise UpstreamUnavailableError from None

    def _recovered(self) -> None:
        if self._complaint:
            self._complaint = ""
            logger.info("the identity provider of %s is available again", self._settings)

    def _complain(self, cause: str) -> None:
        # The text may come from a server, so it can't forge lines, and a cause is logged once.
        cause = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in cause[:_MAX_CAUSE])
        if cause != self._complaint:
            self._complaint = cause
            logger.warning("logins at %s fail: %s", self._settings, cause)


def read_secret(path: str) -> str:
    """Return the client secret in a file. Raises `FetchError`."""
    try:
        secret = read_regular(Path(path), MAX_SECRET).decode().strip()
    except OSError as error:
        raise FetchError(f"{path} can't be read: {error.strerror}") from None
    except ValueError:
        secret = ""
    if not secret or not secret.isprintable():
        raise FetchError(f"{path} has no client secret: one line of printable characters")
    return secret
