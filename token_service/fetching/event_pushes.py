"""Pushes security event tokens to the receivers of event streams (RFC 8935)."""

from __future__ import annotations

import asyncio
from typing import Final

from token_service.core.event_streams.pushing import MAX_PUSHED, PushAnswer, PushFailedError
from token_service.fetching.addresses import Target
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.tokens.secret import Secret
from token_service.urls import UnusableValueError

PUSH_TIMEOUT: Final = 10.0
"""Seconds for one request, with its connection."""
_MAX_ANSWER: Final = 16 * 1024


class HttpPushes:
    """Sends tokens, with connections of its own: slow receivers must not delay the fetching of keys."""

    def __init__(self, *, allow_private: bool, timeout: float = PUSH_TIMEOUT) -> None:
        self._fetcher = HttpFetcher(connections=MAX_PUSHED)
        self._rules = FetchRules(allow_private=allow_private, max_bytes=_MAX_ANSWER)
        self._timeout = timeout

    def problem_of_url(self, url: str) -> str:
        """Return why nothing can be sent to a URL; empty: it can. The address is checked with each push."""
        try:
            Target.parse(url, allow_private=self._rules.allow_private)
        except UnusableValueError as error:
            return f"can't be used: {error}"
        return ""

    async def send(self, url: str, token: str, authorization: Secret | None) -> PushAnswer:
        """See `SendEvent`."""
        header = "" if authorization is None else authorization.reveal().decode()
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._fetcher.post_token(url, token, self._rules, authorization=header)
        except FetchError as error:
            raise PushFailedError(str(error)) from None
        except TimeoutError:
            raise PushFailedError(f"no answer in {self._timeout:g} seconds") from None
        return PushAnswer(answer.status, answer.body)
