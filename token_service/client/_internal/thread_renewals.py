"""Renewals of a token source for threads: one at a time, ahead of the expiry in a thread of its own."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from token_service.client._internal.held_tokens import HeldTokens
from token_service.client._internal.single_flight import ThreadSingleFlight
from token_service.client._internal.token_store import Tokens
from token_service.errors import ServiceError

logger: Final = logging.getLogger(__name__)


class ThreadRenewals:
    """Runs the renewals of one source. Any number of threads may call it concurrently."""

    def __init__(self, state: HeldTokens, renew: Callable[[], Tokens]) -> None:
        self._state = state
        self._renew = renew
        self._renewing: ThreadSingleFlight[str, Tokens] = ThreadSingleFlight()
        self._starting = threading.Lock()
        self._closing = threading.Event()
        self._ahead: threading.Thread | None = None

    def tokens(self) -> Tokens:
        """Return tokens that do not expire within seconds.

        Renewal that is due begins in another thread while the tokens are usable. Raises the `ServiceError` of the renewal if
        no valid token remains.
        """
        state = self._state
        tokens = state.current()
        if tokens is not None:
            return tokens
        tokens = state.usable()
        if tokens is None:
            return self._renewing.do("", self._renew)
        if state.may_try() and not len(self._renewing):
            self._renew_ahead()
        return tokens

    def pause(self, seconds: float) -> bool:
        """Wait between two attempts; return at once, and True, if the source is closed."""
        return self._closing.wait(seconds)

    def close(self) -> None:
        """Wait for the attempt in progress; it is not repeated."""
        self._closing.set()
        ahead = self._ahead
        if ahead is not None:
            ahead.join()

    def _renew_ahead(self) -> None:
        with self._starting:
            if self._closing.is_set() or (self._ahead is not None and self._ahead.is_alive()):
                return
            self._ahead = threading.Thread(target=self._renew_quietly, name="renew-token", daemon=True)
            self._ahead.start()

    def _renew_quietly(self) -> None:
        try:
            self._renewing.do("", self._renew)
        except ServiceError as error:
            logger.info(
                "the early renewal of the access token failed; a later call of `token` tries again: %s",
                error.reason.value,
            )
