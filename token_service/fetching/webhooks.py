"""Posts events to webhooks."""

from __future__ import annotations

import asyncio
import ipaddress
from collections.abc import Mapping
from typing import Final

from token_service.core.events.webhooks.sending import NoAnswerError, WebhookAnswer
from token_service.core.events.webhooks.webhook import MAX_WEBHOOKS
from token_service.fetching.addresses import Target, permitted
from token_service.fetching.failure import FetchError
from token_service.fetching.fetcher import FetchRules, HttpFetcher
from token_service.urls import UnusableValueError

WEBHOOK_TIMEOUT: Final = 10.0
"""Seconds for one request, with its connection and its answer."""
MAX_WEBHOOK_ANSWER: Final = 64 * 1024
_TYPE: Final = {"Content-Type": "application/json", "Accept": "*/*"}


class WebhookPosts:
    """Sends events, with connections of its own: one for each webhook, so that a slow one delays no other one."""

    def __init__(
        self, *, allow_private: bool, timeout: float = WEBHOOK_TIMEOUT, fetcher: HttpFetcher | None = None
    ) -> None:
        self._fetcher = fetcher or HttpFetcher(connections=2 * MAX_WEBHOOKS)  # deliveries and tests
        self._rules = FetchRules(allow_private=allow_private, max_bytes=MAX_WEBHOOK_ANSWER)
        self._timeout = timeout

    def problem_of_url(self, url: str) -> str | None:
        """Return why a URL can't be that of a webhook; None: it can. The addresses of a name are checked at each request."""
        try:
            target = Target.parse(url, allow_private=self._rules.allow_private)
        except UnusableValueError as error:
            return f"can't be used: {error}"
        try:
            ipaddress.ip_address(target.host)
        except ValueError:
            return None
        try:
            permitted(target, [target.host], allow_private=self._rules.allow_private)
        except FetchError as error:
            return f"can't be used: {error}"
        return None

    async def send(self, url: str, headers: Mapping[str, str], body: bytes) -> WebhookAnswer:
        """See `SendWebhook`."""
        try:
            async with asyncio.timeout(self._timeout):
                answer = await self._fetcher.post_body(url, body, self._rules, {**_TYPE, **headers})
        except FetchError as error:
            raise NoAnswerError(str(error)) from None
        except TimeoutError:
            raise NoAnswerError(f"no answer in {self._timeout:g} seconds") from None
        return WebhookAnswer(answer.status, answer.retry_after)
