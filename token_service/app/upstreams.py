"""The identity providers of the policy file, as adapters."""

from __future__ import annotations

from collections.abc import Mapping

from token_service.clock import Clock
from token_service.config.policy_file import PolicyDocument
from token_service.core.access.foreign_issuers import KeyPlace
from token_service.core.access.key_sources import KeySource
from token_service.core.login.oidc import OidcUpstream
from token_service.core.login.oidc_settings import OidcSettings
from token_service.core.login.upstream import Upstream
from token_service.core.login.use_cases import Upstreams
from token_service.errors import ConfigurationError
from token_service.fetching.failure import FetchError
from token_service.fetching.oidc_provider import HttpProvider, read_secret
from token_service.urls import UnusableValueError


class IdentityProviders:
    """The providers of kind `oidc`. One that a new document describes in the same way keeps its state."""

    def __init__(self, clock: Clock, *, issuer: str) -> None:
        """`issuer`: this service."""
        self._clock = clock
        self._issuer = issuer
        self._known: dict[str, tuple[OidcSettings, KeySource, OidcUpstream]] = {}

    def of(self, document: PolicyDocument, keys: Mapping[KeyPlace, KeySource]) -> Mapping[str, OidcUpstream]:
        """Return the upstreams of a document by name. Reads the files of the secrets. Raises `ConfigurationError`."""
        self._known = {
            each.name: self._one(each, keys[each.place])
            for each in document.upstreams.values()
            if isinstance(each, OidcSettings)
        }
        return {name: upstream for name, (_, _, upstream) in self._known.items()}

    def _one(self, settings: OidcSettings, keys: KeySource) -> tuple[OidcSettings, KeySource, OidcUpstream]:
        if not self._issuer.startswith(("https://", "http://")):
            raise ConfigurationError(
                f"{settings}: TOKEN_SERVICE_ISSUER must be a URL, below which the provider finds the callback"
            )
        if settings.issuer == self._issuer:
            raise ConfigurationError(f"{settings}: issuer: is this service itself")
        try:
            read_secret(settings.client_secret_file)
        except FetchError as error:
            raise ConfigurationError(f"{settings}: client_secret_file: {error}") from None
        known = self._known.get(settings.name)
        if known is not None and known[:2] == (settings, keys):
            return known
        try:
            provider = HttpProvider(settings, keys, self._clock)
        except UnusableValueError as error:
            raise ConfigurationError(f"{settings}: issuer: {error}") from None
        return settings, keys, OidcUpstream(settings, provider, self._clock, service=self._issuer)


def current_upstreams(
    document: PolicyDocument, providers: Mapping[str, OidcUpstream], upstreams: Upstreams
) -> dict[str, Upstream]:
    """Return the upstreams of a document in their order."""
    return {
        each.name: providers[each.name] if isinstance(each, OidcSettings) else upstreams.challenge(each.url)
        for each in document.upstreams.values()
    }
