"""Renewal of access tokens: ahead of expiry, and by one process at a time for each session."""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections.abc import Mapping
from typing import Final

from token_service.bff.browser_origin import NO_HEADERS
from token_service.bff.failures import GrantRefusedError, ProviderUnavailableError, SessionEndedError
from token_service.bff.provider import OpenIdProvider, TokenAnswer
from token_service.bff.sessions import OpenedSession, SessionContent, Sessions
from token_service.client._internal.single_flight import SingleFlight
from token_service.clock import Clock
from token_service.errors import InvalidTokenError, StoreUnavailableError

MARGIN: Final = 5.0
"""Seconds before its expiry from which an access token is not handed out while it can be renewed."""
LEASE: Final = 10.0
"""Seconds besides four times the provider's timeout for which one process alone renews a session.

The four are two attempts, and the fetches of the discovery document and of the keys for a new ID token.
"""
_POLL: Final = 0.1
"""Seconds between two looks at a session that another process renews."""
_WRITES: Final = 3
"""Attempts to store new tokens. The provider has already replaced the refresh token, so giving up is costly."""
_FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 30.0
"""Seconds between two attempts to renew a session after failures. The first pause is 1 second."""
_MAX_PAUSES: Final = 10_000

logger = logging.getLogger(__name__)


class Renewal:
    """Keeps the tokens of sessions usable.

    Requests of one process share a renewal, and a lease in the store keeps other processes from beginning one. A
    renewal runs to its end when the requests that wait for it are gone, because the provider may have replaced the
    refresh token. If its answer is lost, the same refresh token is sent once more: a provider that replaces refresh
    tokens answers a retry with the same successor, or has a grace time.
    """

    def __init__(self, sessions: Sessions, provider: OpenIdProvider, clock: Clock, timeout: float) -> None:
        """`timeout`: of a request to the provider."""
        self._sessions = sessions
        self._provider = provider
        self._clock = clock
        self._timeout = timeout
        self._flights: SingleFlight[str, OpenedSession] = SingleFlight()
        self._closing = False
        self._pauses: dict[str, tuple[float, float]] = {}
        """The end and the length of the pause after a failure, by session, on the monotonic clock."""

    async def usable(self, opened: OpenedSession, origin: Mapping[str, str] = NO_HEADERS) -> OpenedSession:
        """Return the session with an access token that is valid now. `origin`: headers about the browser of the request.

        While the token is valid, a renewal runs beside. Raises `SessionEndedError` if the provider ended the session,
        and `ProviderUnavailableError` or `StoreUnavailableError` if the token has expired and can't be renewed now.
        """
        content = opened.content
        now = self._clock.now()
        if now < content.renew_time:
            return opened
        if content.refresh_token is None:
            if now < content.access_expire_time:
                return opened
            raise SessionEndedError
        key = opened.stored.key
        pause = self._pauses.get(key, (0.0, 0.0))[0] - self._clock.monotonic()
        if pause <= 0:
            renewal = self._flights.begin(key, lambda: self._renew(key, origin))
            if now >= content.access_expire_time - MARGIN:
                try:
                    return await asyncio.shield(renewal)
                except (ProviderUnavailableError, StoreUnavailableError):
                    if self._clock.now() >= content.access_expire_time:
                        raise
        elif now >= content.access_expire_time:
            raise ProviderUnavailableError("the provider did not renew the access token", retry_after=pause)
        return opened

    async def aclose(self) -> None:
        """Wait for the answers to renewals in progress, but not for renewals of other processes."""
        self._closing = True
        await self._flights.drain()
        self._closing = False

    async def _renew(self, key: str, origin: Mapping[str, str]) -> OpenedSession:
        try:
            opened = await self._renew_or_wait(key, origin)
        except (ProviderUnavailableError, StoreUnavailableError) as error:
            self._pause(key)
            logger.warning("an access token was not renewed: %s; the session stays", error.message)
            raise
        self._pauses.pop(key, None)
        return opened

    async def _renew_or_wait(self, key: str, origin: Mapping[str, str]) -> OpenedSession:
        """Renew, or wait until the process that holds the lease has done so."""
        holder = secrets.token_hex(16)
        lease = LEASE + 4 * self._timeout
        give_up = self._clock.monotonic() + lease
        while True:
            now = self._clock.now()
            stored = await self._sessions.store.lease(key, holder, now, now + lease)
            if stored is not None:
                try:
                    opened = self._sessions.open(stored)
                    if opened is None:
                        raise SessionEndedError
                    return await self._renew_alone(opened, origin)
                finally:
                    await self._release(key, holder)
            opened = await self._sessions.load(key, now)
            if opened is None:
                raise SessionEndedError
            if now < opened.content.renew_time or now < opened.content.access_expire_time - MARGIN:
                return opened  # the other process is done, or has time
            if self._closing or self._clock.monotonic() >= give_up:
                raise ProviderUnavailableError("another process did not renew the access token in time")
            await asyncio.sleep(_POLL)

    async def _renew_alone(self, opened: OpenedSession, origin: Mapping[str, str]) -> OpenedSession:
        """Renew a session whose lease this process holds."""
        content, key = opened.content, opened.stored.key
        sent_at = self._clock.now()
        if sent_at < content.renew_time:
            return opened  # another process renewed it before this one got the lease
        if content.refresh_token is None:
            raise SessionEndedError
        try:
            tokens = await self._refresh(content.refresh_token, origin)
        except GrantRefusedError:
            if await self._sessions.store.delete(key, opened.stored.version):
                logger.info("a session ended: the provider refused its refresh token")
                raise SessionEndedError from None
            return await self._as_it_is(key)
        claims = await self._claims(content, tokens)
        if claims is None:
            await self._sessions.store.delete(key)
            logger.error("a session ended: the provider renewed it with the ID token of another subject")
            raise SessionEndedError
        merged = TokenAnswer(
            tokens.access_token,
            tokens.lifetime,
            tokens.refresh_token or content.refresh_token,
            tokens.id_token,
        )
        id_token = tokens.id_token if claims is not content.claims and tokens.id_token else content.id_token
        renewed = self._sessions.content(claims, merged, id_token, sent_at)
        await self._write(opened, renewed)
        return await self._as_it_is(key)

    async def _refresh(self, refresh_token: str, origin: Mapping[str, str]) -> TokenAnswer:
        try:
            return await self._provider.refresh(refresh_token, origin)
        except ProviderUnavailableError as error:
            if not error.answer_lost:
                raise
            return await self._provider.refresh(refresh_token, origin)

    async def _claims(self, content: SessionContent, tokens: TokenAnswer) -> dict[str, object] | None:
        """Return the claims after a renewal; None if its ID token is of another subject.

        Without an ID token, or with one that can't be verified now, the claims stay as they are (OpenID Connect Core
        1.0, section 12.2).
        """
        if tokens.id_token is None:
            return content.claims
        try:
            claims = await self._provider.id_token_claims(tokens.id_token, nonce=None)
        except (InvalidTokenError, ProviderUnavailableError) as error:
            logger.warning("an ID token of a renewal was ignored: %s", error.message)
            return content.claims
        return claims if claims["sub"] == content.claims["sub"] else None

    async def _write(self, opened: OpenedSession, content: SessionContent) -> None:
        """Store new tokens, unless the session was deleted or renewed by another process meanwhile."""
        payload = self._sessions.seal(opened.stored.key, content)
        for attempt in range(1, _WRITES + 1):
            try:
                await self._sessions.store.replace(opened.stored.key, opened.stored.version, payload)
            except StoreUnavailableError:
                if attempt == _WRITES:
                    raise
                await asyncio.sleep(_POLL * attempt)
            else:
                return

    async def _as_it_is(self, key: str) -> OpenedSession:
        """Return the session that this or another process has written. Raises `SessionEndedError` without one."""
        opened = await self._sessions.load(key, self._clock.now())
        if opened is None:
            raise SessionEndedError
        return opened

    async def _release(self, key: str, holder: str) -> None:
        try:
            await self._sessions.store.release(key, holder)
        except StoreUnavailableError:
            logger.warning("the lease of a renewal stays until it ends: the session store is unavailable")

    def _pause(self, key: str) -> None:
        now = self._clock.monotonic()
        length = min(2 * self._pauses.get(key, (0.0, _FIRST_PAUSE / 2))[1], LONGEST_PAUSE)
        if len(self._pauses) >= _MAX_PAUSES:
            self._pauses = {each: pause for each, pause in self._pauses.items() if pause[0] > now}
        if len(self._pauses) < _MAX_PAUSES:
            self._pauses[key] = (now + length, length)
