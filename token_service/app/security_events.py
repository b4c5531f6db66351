"""The transmitters of security events of the policy file, with the adapters that their settings name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping

from token_service.config.policy_file import PolicyDocument
from token_service.core.access.foreign_issuers import KeyPlace
from token_service.core.access.key_sources import KeySource
from token_service.core.security_events.transmitters import ConnectedTransmitter, Transmitter
from token_service.errors import ConfigurationError, StoreUnavailableError
from token_service.fetching.addresses import Target
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import HttpFetcher
from token_service.fetching.oidc_provider import read_secret
from token_service.fetching.security_event_polls import TransmitterPolls
from token_service.urls import UnusableValueError


class Transmitters:
    """The transmitters. One that a new document describes in the same way stays the same object."""

    def __init__(self, *, issuer: str) -> None:
        """`issuer`: this service, below which transmitters find the endpoint for pushes."""
        self._issuer = issuer
        self._fetcher = HttpFetcher()  # of its own: slow transmitters must not delay the fetching of keys
        self._known: dict[str, ConnectedTransmitter] = {}

    def of(
        self, document: PolicyDocument, keys: Mapping[KeyPlace, KeySource]
    ) -> Mapping[str, ConnectedTransmitter]:
        """Return the transmitters of a document by name. Reads the files of the tokens. Raises `ConfigurationError`."""
        self._known = {
            name: self._one(each, keys[each.place])
            for name, each in document.security_event_transmitters.items()
        }
        return self._known

    def _one(self, settings: Transmitter, keys: KeySource) -> ConnectedTransmitter:
        push, poll = settings.push, settings.poll
        if push is not None and not self._issuer.startswith(("https://", "http://")):
            raise ConfigurationError(
                f"{settings}: push: TOKEN_SERVICE_ISSUER must be a URL, below which the transmitter finds the endpoint"
            )
        for table, file in (("push", push and push.token_file), ("poll", poll and poll.token_file)):
            if file:
                _require_token(settings, table, file)
        known = self._known.get(settings.name)
        if known is not None and known.settings == settings and known.keys is keys:
            return known
        return ConnectedTransmitter(
            settings,
            keys,
            _token_reader(push.token_file) if push is not None and push.token_file else None,
            self._polls(settings).poll if poll is not None else None,
        )

    def _polls(self, settings: Transmitter) -> TransmitterPolls:
        assert settings.poll is not None
        try:
            Target.parse(settings.poll.endpoint, allow_private=settings.private)
        except UnusableValueError as error:
            raise ConfigurationError(f"{settings}: poll.endpoint: {error}") from None
        return TransmitterPolls(
            settings.poll.endpoint,
            self._fetcher,
            token_file=settings.poll.token_file,
            private=settings.private,
            ca_file=settings.ca_file,
        )


def _require_token(settings: Transmitter, table: str, file: str) -> None:
    try:
        read_secret(file)
    except FetchError as error:
        raise ConfigurationError(f"{settings}: {table}.token_file: {error}") from None


def _token_reader(file: str) -> Callable[[], Awaitable[str]]:
    async def read() -> str:
        try:
            return await asyncio.to_thread(read_secret, file)
        except FetchError as error:
            raise StoreUnavailableError(
                f"the bearer token of the transmitter can't be read: {error}", retry_after=1.0
            ) from None

    return read
