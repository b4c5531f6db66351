"""Parts that both validators share."""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Self

from token_service.client._internal.clock import Instant, SystemValidatorClock, ValidatorClock
from token_service.client._internal.contact import Contact, View
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
        return Moment.of(self).is_ready


@dataclass(frozen=True, slots=True)
class Moment:
    """What other tasks and threads change, as it was at one moment."""

    forked: bool
    view: View | None
    """None without a `ServiceIssuer`."""
    without_keys: tuple[str, ...]
    """Issuers without a usable key set so far."""
    at: Instant

    @classmethod
    def of(cls, parts: Parts) -> Self:
        """Read the state."""
        view = parts.contact.view() if parts.contact is not None else None
        has_keys = {name: state.has_keys for name, state in parts.local.issuers.items()}
        if view is not None and parts.service is not None:
            has_keys[parts.service.issuer] = view.standing.has_keys
        without_keys = tuple(name for name, has in has_keys.items() if not has)
        # The clocks are read last, so that a proof is never younger than the moment.
        return cls(parts.forked, view, without_keys, Instant.of(parts.clock))

    @property
    def is_fresh(self) -> bool:
        """Whether the replica, if there is one, was proven fresh."""
        return self.view is None or self.view.standing.feed.is_fresh(self.at.now, self.at.elapsed)

    @property
    def is_ready(self) -> bool:
        """Whether every issuer had keys and the replica was proven fresh."""
        return not self.forked and not self.without_keys and self.is_fresh


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
