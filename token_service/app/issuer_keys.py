"""Sources of the keys of other issuers, for the issuers that the policy file names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from token_service.clock import Clock
from token_service.config.policy_file import PolicyDocument
from token_service.core.access.foreign_issuers import DISCOVERY, FILE, ForeignIssuer, KeyPlace
from token_service.core.access.key_sources import KeySource
from token_service.core.grants.trusted_issuers import TrustedIssuers
from token_service.core.login.oidc_settings import OidcSettings
from token_service.errors import ConfigurationError
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.fetching.file_keys import FileKeys
from token_service.fetching.remote_keys import RemoteKeys
from token_service.urls import UnusableValueError


class IssuerKeys:
    """The sources of the keys of other issuers. A place that a new document names again keeps its source."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._fetcher = HttpFetcher()  # of its own: slow servers of clients must not delay these keys
        self._sources: dict[KeyPlace, KeySource] = {}

    def of(self, document: PolicyDocument) -> Mapping[KeyPlace, KeySource]:
        """Return the sources of a document, without I/O. Raises `ConfigurationError`."""
        issuers: list[ForeignIssuer | OidcSettings] = [
            *document.workload_issuers.values(),
            *(each for each in document.trusted_issuers.values() if not each.is_own),
            *(each for each in document.upstreams.values() if isinstance(each, OidcSettings)),
            *document.security_event_transmitters.values(),
        ]
        self._sources = {
            each.place: self._sources.get(each.place)
            or _key_source(str(each), each.place, self._fetcher, self._clock)
            for each in issuers
        }
        return self._sources


def trusted_issuers(
    document: PolicyDocument, keys: Mapping[KeyPlace, KeySource], issuer: str
) -> TrustedIssuers:
    """Return the trusted issuers of a document for the service `issuer`. Raises `ConfigurationError`."""
    entries = document.trusted_issuers.values()
    own = next((each for each in entries if each.is_own), None)
    return TrustedIssuers(
        [(each, keys[each.place]) for each in entries if not each.is_own], own=own, service=issuer
    )


def _key_source(entry: str, place: KeyPlace, fetcher: HttpFetcher, clock: Clock) -> KeySource:
    rules = FetchRules(
        allow_private=place.private,
        authorities=Path(place.ca_file) if place.ca_file else None,
        bearer_token=Path(place.bearer_token_file) if place.bearer_token_file else None,
    )
    try:
        if place.keys.startswith(FILE):
            return FileKeys(Path(place.keys.removeprefix(FILE)), clock)
        if place.keys == DISCOVERY:
            return RemoteKeys.discovered(place.issuer, fetcher, clock, rules=rules)
        return RemoteKeys(place.keys, fetcher, clock, rules=rules)
    except UnusableValueError as error:
        raise ConfigurationError(f"{entry}: keys: {error}") from None
