"""Request and answer of a poll for security events (RFC 8936, section 2)."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from token_service.core.security_events.refusal import SetRefusedError

MAX_POLLED: Final = 20
"""Security event tokens of one answer. Its size limits them too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PollRequest:
    """What a poll reports about the tokens of earlier polls. It asks for at most `MAX_POLLED` further ones, at once."""

    acknowledged: Sequence[str] = ()
    """The `jti` of each token whose revocations are durable."""
    refused: Mapping[str, SetRefusedError] = field(default_factory=dict)
    """The refused tokens by `jti`."""


@dataclass(frozen=True, slots=True)
class PollAnswer:
    """The tokens of a poll."""

    tokens: Mapping[str, str]
    """By `jti`, as the transmitter says it."""
    more_available: bool = False


class TransmitterUnreachableError(Exception):
    """A transmitter gave no usable answer to a poll. The message is for operators."""


Poll = Callable[[PollRequest], Awaitable[PollAnswer]]
"""Polls one transmitter, in a bounded time. Raises `TransmitterUnreachableError`."""
