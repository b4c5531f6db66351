"""Keys from a URL: the `jwks_uri` of a client, or the one that an issuer names in its discovery document."""

from __future__ import annotations

from typing import Final

from token_service.clock import Clock
from token_service.fetching.addresses import Target
from token_service.fetching.documents import jwks_uri_of, lifetime_of
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.held_keys import HeldKeys, Loaded, Pace
from token_service.urls import UnusableValueError, redact_url

PACE: Final = Pace(timeout=5.0, unknown_key_interval=10.0, longest_retry=10.0, last_good=3600.0)
_DEFAULT_RULES: Final = FetchRules()


class RemoteKeys(HeldKeys):
    """The keys at a URL. Fetched on first use, kept as long as the server allows within limits, then fetched again."""

    def __init__(
        self,
        url: str,
        fetcher: HttpFetcher,
        clock: Clock,
        *,
        rules: FetchRules = _DEFAULT_RULES,
        pace: Pace = PACE,
    ) -> None:
        """Raises `UnusableValueError` for a URL that `FetchRules` never allow."""
        Target.parse(url, allow_private=rules.allow_private)
        super().__init__(redact_url(url), pace, clock)
        self._url = url
        self._fetcher = fetcher
        self._rules = rules

    @classmethod
    def discovered(
        cls,
        issuer: str,
        fetcher: HttpFetcher,
        clock: Clock,
        *,
        rules: FetchRules = _DEFAULT_RULES,
        pace: Pace = PACE,
    ) -> RemoteKeys:
        """Return the keys of an OpenID Connect issuer, whose discovery document names their URL.

        The document must name exactly `issuer`. Raises `UnusableValueError` for an issuer that is not a usable URL.
        """
        return _DiscoveredKeys(issuer, fetcher, clock, rules=rules, pace=pace)

    async def _load(self) -> Loaded:
        answer = await self._fetcher.get(await self._locate(), self._rules)
        return Loaded(answer.body, lifetime_of(answer.cache_control, answer.age))

    async def _locate(self) -> str:
        """Return the URL of the key set."""
        return self._url


class _DiscoveredKeys(RemoteKeys):
    """The keys of an issuer. The discovery document is fetched with them, because it may name another URL later."""

    def __init__(
        self, issuer: str, fetcher: HttpFetcher, clock: Clock, *, rules: FetchRules, pace: Pace
    ) -> None:
        if "?" in issuer:
            raise UnusableValueError("it has a query, which an issuer must not have")
        super().__init__(issuer, fetcher, clock, rules=rules, pace=pace)

    async def _locate(self) -> str:
        document = f"{self._url.removesuffix('/')}/.well-known/openid-configuration"
        answer = await self._fetcher.get(document, self._rules)
        return jwks_uri_of(answer.body, self._url)
