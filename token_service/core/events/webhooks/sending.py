"""One signed request to a webhook, and its outcome."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias

from token_service.clock import Clock
from token_service.core.events.webhooks.schedule import retry_after_seconds
from token_service.core.events.webhooks.signing import signed_headers
from token_service.core.events.webhooks.webhook import Webhook
from token_service.tokens.secret import Secret

_GONE: Final = 410
_MAX_ERROR: Final = 300


class Outcome(StrEnum):
    """The outcome of an attempt."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """The attempt is repeated."""
    DEAD_LETTER = "dead_letter"
    """It was the last attempt."""


class NoAnswerError(Exception):
    """A receiver gave no answer that can be used, or may not be called. The message is for operators."""


@dataclass(frozen=True, slots=True)
class WebhookAnswer:
    """The answer of a receiver."""

    status: int
    retry_after: str = ""
    """The value of the header."""


SendWebhook: TypeAlias = Callable[[str, Mapping[str, str], bytes], Awaitable[WebhookAnswer]]
"""`send(url, headers, body)` posts a JSON body, in a bounded time. Raises `NoAnswerError`."""
OpenSecrets: TypeAlias = Callable[[Webhook, float], Sequence[Secret]]
"""Returns the secrets of a webhook that sign at a time. Raises `ConfigurationError`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """The outcome of a request."""

    status: int = 0
    """The status of the answer; 0: there was none."""
    error: str = ""
    """Why it failed; empty: it did not."""
    retry_after: float = 0.0

    @property
    def delivered(self) -> bool:
        """Whether the receiver took it."""
        return not self.error

    @property
    def is_gone(self) -> bool:
        """Whether the receiver wants no further events."""
        return self.status == _GONE


class WebhookSender:
    """Signs and sends requests."""

    def __init__(self, send: SendWebhook, open_secrets: OpenSecrets, clock: Clock) -> None:
        self._send = send
        self._open_secrets = open_secrets
        self._clock = clock

    async def attempt(self, webhook: Webhook, message_id: str, body: bytes) -> Attempt:
        """Send a body once. Raises `ConfigurationError` if a secret can't be decrypted."""
        now = self._clock.now()
        headers = signed_headers(self._open_secrets(webhook, now), message_id, int(now), body)
        try:
            answer = await self._send(webhook.url, headers, body)
        except NoAnswerError as error:
            return Attempt(error=str(error)[:_MAX_ERROR])
        if 200 <= answer.status < 300:
            return Attempt(status=answer.status)
        return Attempt(
            status=answer.status,
            error=f"the receiver answered with status {answer.status}",
            retry_after=retry_after_seconds(answer.retry_after, now),
        )
