"""Posts logout tokens to the `backchannel_logout_uri` of clients."""

from __future__ import annotations

import asyncio
from typing import Final

from token_service.core.logout.delivering import (
    LOGOUTS_PER_CLIENT,
    MAX_CLIENTS_TOLD,
    ReceiverUnreachableError,
)
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import FetchRules, HttpFetcher

LOGOUT_TIMEOUT: Final = 5.0
"""Seconds for one request, with its connection."""
_MAX_ANSWER: Final = 64 * 1024


class LogoutPosts:
    """Sends logout tokens, with connections of its own: slow clients must not delay the fetching of keys."""

    def __init__(self, *, allow_private: bool, timeout: float = LOGOUT_TIMEOUT) -> None:
        self._fetcher = HttpFetcher(connections=MAX_CLIENTS_TOLD * LOGOUTS_PER_CLIENT)
        self._rules = FetchRules(allow_private=allow_private, max_bytes=_MAX_ANSWER)
        self._timeout = timeout

    async def send(self, uri: str, token: str) -> int:
        """See `SendLogout`."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._fetcher.post(uri, {"logout_token": token}, self._rules)
        except FetchError as error:
            raise ReceiverUnreachableError(str(error)) from None
        except TimeoutError:
            raise ReceiverUnreachableError(f"no answer in {self._timeout:g} seconds") from None
        return answer.status
