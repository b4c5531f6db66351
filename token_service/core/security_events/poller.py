"""Polls transmitters for security events (RFC 8936), each on the one node that has its lease."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from token_service.core.leases import Lease, LeaseStore
from token_service.core.security_events.polling import (
    MAX_POLLED,
    Poll,
    PollAnswer,
    PollRequest,
    TransmitterUnreachableError,
)
from token_service.core.security_events.receiver import SecurityEventReceiver
from token_service.core.security_events.refusal import SetRefusedError
from token_service.core.security_events.transmitters import ConnectedTransmitter
from token_service.errors import TokenServiceError

LEASE_TTL: Final = 30.0
"""Seconds after which another node takes over from one that was killed. Longer than a poll and its tokens take."""
_CHECK: Final = 1.0
"""Seconds between two looks at the transmitters of the policy file."""
_LONGEST_DELAY: Final = 60.0
"""Seconds between two polls of a transmitter that fails."""

logger = logging.getLogger(__name__)


class SecurityEventPoller:
    """Runs one task for each transmitter that is polled, and replaces it when its settings change."""

    def __init__(self, receiver: SecurityEventReceiver, leases: LeaseStore, node_id: str) -> None:
        self._receiver = receiver
        self._leases = leases
        self._node_id = node_id
        self._counted: Callable[[str, bool], None] = lambda _transmitter, _succeeded: None

    def on_poll(self, counted: Callable[[str, bool], None]) -> None:
        """Call `counted` after each poll, with the transmitter and whether the poll succeeded."""
        self._counted = counted

    async def run(self) -> None:
        """Poll until cancelled."""
        running: dict[str, tuple[ConnectedTransmitter, asyncio.Task[None]]] = {}
        try:
            while True:
                current = self._receiver.transmitters
                gone = [name for name, (known, _) in running.items() if current.get(name) is not known]
                await _cancel([running.pop(name)[1] for name in gone])
                for name, transmitter in current.items():
                    if transmitter.poll is not None and name not in running:
                        run = self._poll(transmitter, transmitter.poll)
                        task = asyncio.create_task(run, name=f"poll-security-events-{name}")
                        running[name] = transmitter, task
                await asyncio.sleep(_CHECK)
        finally:
            await _cancel([task for _, task in running.values()])

    async def _poll(self, transmitter: ConnectedTransmitter, poll: Poll) -> None:
        settings = transmitter.settings
        assert settings.poll is not None  # as `poll` is given
        lease = Lease(self._leases, f"security-events:{settings.name}", self._node_id)
        polling = _Polling(self._receiver, transmitter, poll)
        failures, complaint = 0, ""
        try:
            while True:
                delay = settings.poll.interval
                try:
                    if await lease.acquire(max(LEASE_TTL, 2 * settings.poll.interval)):
                        delay = 0.0 if await polling.once() else delay
                        self._counted(settings.name, True)
                    else:
                        polling.forget()
                    failures = 0
                    if complaint:
                        complaint = ""
                        logger.info("security events of %s arrive again", settings.name)
                except (TokenServiceError, TransmitterUnreachableError) as error:
                    failures += 1
                    delay = min(_LONGEST_DELAY, delay * 2.0 ** min(failures - 1, 10))
                    if str(error) != complaint:
                        complaint = str(error)
                        logger.warning(
                            "security events of %s can't be polled, trying again: %s", settings.name, error
                        )
                except Exception:
                    failures += 1
                    delay = _LONGEST_DELAY
                    logger.exception("the poll for security events of %s failed", settings.name)
                if failures:
                    self._counted(settings.name, False)
                await asyncio.sleep(delay)
        finally:
            with suppress(TokenServiceError):
                await lease.release()


class _Polling:
    """The polls of one transmitter, and what the next one has to report."""

    def __init__(
        self, receiver: SecurityEventReceiver, transmitter: ConnectedTransmitter, poll: Poll
    ) -> None:
        self._receiver = receiver
        self._transmitter = transmitter
        self._poll = poll
        self._acknowledged: list[str] = []
        self._refused: dict[str, SetRefusedError] = {}

    def forget(self) -> None:
        """Report nothing. The node that polls now gets the same tokens again, and acknowledges them."""
        self._acknowledged, self._refused = [], {}

    async def once(self) -> bool:
        """Poll, and receive the tokens of the answer; return whether the next poll should follow at once.

        A token is acknowledged in the next poll, after its revocations are durable. Raises
        `TransmitterUnreachableError` and the errors of `SecurityEventReceiver.receive` that another attempt may avoid. The
        tokens that were received before the error are acknowledged nevertheless.
        """
        answer = await self._poll(PollRequest(acknowledged=self._acknowledged, refused=self._refused))
        self.forget()
        return await self._receive(answer)

    async def _receive(self, answer: PollAnswer) -> bool:
        """Receive tokens; return whether one of them was new: else the transmitter ignores what it is told."""
        has_new = False
        for token_id, token in list(answer.tokens.items())[:MAX_POLLED]:
            try:
                is_first = await self._receiver.receive(self._transmitter, token)
            except SetRefusedError as error:
                name = self._transmitter.settings.name
                logger.warning("a security event token of %s is refused: %s", name, error.message)
                self._refused[token_id] = error
            else:
                self._acknowledged.append(token_id)
                has_new |= is_first
        return has_new


async def _cancel(tasks: list[asyncio.Task[None]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
