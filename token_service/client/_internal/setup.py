"""Parts that both validators share."""

from __future__ import annotations

import uuid

from token_service.client._internal.clock import SystemValidatorClock, ValidatorClock
from token_service.client._internal.contact import Contact
from token_service.client._internal.counters import Counters
from token_service.client._internal.following.state import FollowerState
from token_service.client._internal.local import LocalValidator
from token_service.client.config import ForeignIssuer, ServiceIssuer, ValidatorConfig


class Parts:
    """Parts of a validator that do no I/O."""

    def __init__(self, config: ValidatorConfig, clock: ValidatorClock | None) -> None:
        self.config = config
        self.clock: ValidatorClock = clock or SystemValidatorClock()
        self.counters = Counters()
        self.local = LocalValidator(config, self.clock, self.counters)
        self.service = next((i for i in config.issuers if isinstance(i, ServiceIssuer)), None)
        self.foreign = [i for i in config.issuers if isinstance(i, ForeignIssuer)]
        self.follower_state: FollowerState | None = None
        self.contact: Contact | None = None
        self.forked = False
        self.name = ""
        if self.service is not None:
            issuer = self.service.issuer
            self.name = self.service.subscriber_id or uuid.uuid4().hex
            self.follower_state = FollowerState(
                issuer,
                self.service.freshness.bound,
                self.clock,
                lambda jwks, revision: self.local.replace_keys(issuer, jwks, revision),
                self.counters,
            )
            self.contact = Contact(self.service, self.clock.elapsed, self.follower_state)
            self.local.issuers[issuer].feed = self.follower_state.feed

    @property
    def is_ready(self) -> bool:
        """True while every issuer has keys and the replica is proven fresh."""
        now, elapsed = self.clock.now(), self.clock.elapsed()
        return not self.forked and all(
            state.has_keys and state.feed.is_fresh(now, elapsed) for state in self.local.issuers.values()
        )


class RefreshLimit:
    """Limit on fetches that unknown `kid`s cause, independent of the number of tokens."""

    __slots__ = ("_clock", "_interval", "_last")

    def __init__(self, interval: float, clock: ValidatorClock) -> None:
        self._interval = interval
        self._clock = clock
        self._last = float("-inf")

    def allows(self) -> bool:
        """Return whether a fetch may begin now, and count it if so."""
        now = self._clock.elapsed()
        if now - self._last < self._interval:
            return False
        self._last = now
        return True
