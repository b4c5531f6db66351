"""The signals: what of a use hints at theft. Each is a rule of the policy file with its weight and parameters.

A signal raises for no text of an observation.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import lru_cache
from math import isfinite
from typing import ClassVar, Final, Protocol

from token_service.core.policies.rates import Rate
from token_service.core.risk.location import Location, Locator, distance, network
from token_service.core.risk.observation import Observation, Seen, Use

_VERSION: Final = re.compile(r"[0-9][0-9._]*")
_HOUR: Final = 3600.0
_ISSUANCES: Final = Rate(60, 60)
_REFUSALS: Final = Rate(5, 600)


class Scene:
    """An observation with the locations of its origins, each looked up at most once."""

    def __init__(self, observation: Observation, locator: Locator | None) -> None:
        self.observation: Final = observation
        self._locator: Final = locator
        self._located: Final[dict[str, Location | None]] = {}

    def locate(self, address: str) -> Location | None:
        """Return the location of an address; None: unknown."""
        if self._locator is None or not address:
            return None
        if address not in self._located:
            self._located[address] = self._locator.locate(address)
        return self._located[address]

    @property
    def here(self) -> Location | None:
        """The location of the use; None: unknown."""
        return self.locate(self.observation.address)

    def network(self, address: str) -> str:
        """Return the network of an address; empty: no address."""
        return network(address, self.locate(address))

    def origins(self) -> tuple[Seen, ...]:
        """Return the earlier origins with an address, the last one first."""
        return tuple(each for each in self.observation.history.origins if each.address)


class Signal(Protocol):
    """A rule: one signal, its weight and its parameters."""

    name: ClassVar[str]

    @property
    def weight(self) -> int:
        """What the signal adds to the score, from 1 to 100."""
        ...

    def detect(self, scene: Scene) -> str:
        """Return what a use shows, in plain text without personal data; empty: the signal is silent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuanceRate:
    """More tokens than usual are issued to one subject through one client."""

    name: ClassVar[str] = "issuance_rate"
    weight: int = 30
    rate: Rate = _ISSUANCES

    def detect(self, scene: Scene) -> str:
        """Detect an exceeded rate. The history counts it."""
        exceeded = scene.observation.history.issuances
        return f"more than {self.rate} issuances" if exceeded > 0 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RenewalRhythm:
    """A session is renewed again and again long before its access tokens expire."""

    name: ClassVar[str] = "renewal_rhythm"
    weight: int = 30
    part: int = 10
    """Percent of the lifetime of an access token before which a renewal is quick."""
    times: int = 3
    """Consecutive quick renewals that give the signal."""

    def is_quick(self, renewed: float | None, now: float, access_token_ttl: float) -> bool:
        """Tell whether a renewal at `now` is quick."""
        return renewed is not None and now - renewed < access_token_ttl * self.part / 100

    def detect(self, scene: Scene) -> str:
        """Detect the last of `times` quick renewals."""
        seen = scene.observation
        if seen.use is not Use.REFRESH:
            return ""
        if not self.is_quick(seen.history.renewed, seen.time, seen.access_token_ttl):
            return ""
        quick = seen.history.quick_renewals + 1
        return (
            f"{quick} renewals in a row, each within {self.part} % of the lifetime"
            if quick >= self.times
            else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ConcurrentUse:
    """A session is used from two networks in turn. A user who moves does not come back within the window."""

    name: ClassVar[str] = "concurrent_use"
    weight: int = 50
    window: int = 300
    """Seconds."""

    def detect(self, scene: Scene) -> str:
        """Detect a return to a network, within the window, after a use from another one in between."""
        seen, origins = scene.observation, scene.origins()
        if not seen.address or not origins:
            return ""
        here = scene.network(seen.address)
        recent = [each for each in origins if seen.time - each.time <= self.window]
        if not recent or scene.network(recent[0].address) == here:
            return ""
        if all(scene.network(each.address) != here for each in recent[1:]):
            return ""
        return f"two networks in turn within {self.window} s"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewDevice:
    """A session is used by another device or program than before."""

    name: ClassVar[str] = "new_device"
    weight: int = 30

    def detect(self, scene: Scene) -> str:
        """Detect an unknown device id, or an unknown user agent regardless of its version.

        A use without a user agent counts if each earlier one had one: a thief could leave it out. A caller that reports no
        address reports no origin at all.
        """
        seen, origins = scene.observation, scene.observation.history.origins
        devices = {each.device_id for each in origins if each.device_id}
        if seen.device_id and devices and seen.device_id not in devices:
            return "another device id than before"
        agents = {program_of(each.user_agent) for each in origins if each.user_agent}
        if seen.user_agent and agents and program_of(seen.user_agent) not in agents:
            return "another user agent than before"
        if seen.address and not seen.user_agent and agents and all(each.user_agent for each in origins):
            return "no user agent, unlike before"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewNetwork:
    """A session is used from another network than before."""

    name: ClassVar[str] = "new_network"
    weight: int = 15

    def detect(self, scene: Scene) -> str:
        """Detect an unknown network."""
        seen, origins = scene.observation, scene.origins()
        if not seen.address or not origins:
            return ""
        known = {scene.network(each.address) for each in origins}
        return "" if scene.network(seen.address) in known else "another network than before"


@dataclass(frozen=True, slots=True, kw_only=True)
class NewCountry:
    """A session is used from another country than before. Needs a database of addresses."""

    name: ClassVar[str] = "new_country"
    weight: int = 30

    def detect(self, scene: Scene) -> str:
        """Detect an unknown country."""
        here = scene.here
        if here is None or not here.country:
            return ""
        known = {
            place.country for each in scene.origins() if (place := scene.locate(each.address)) is not None
        }
        known.discard("")
        return (
            f"from {here.country}, another country than before" if known and here.country not in known else ""
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ImpossibleTravel:
    """A session is used too far from its last use for the time in between. Needs a database of addresses."""

    name: ClassVar[str] = "impossible_travel"
    weight: int = 60
    speed: int = 1000
    """Kilometers in an hour that a user can travel."""
    distance: int = 200
    """Kilometers that are never too far, because locations of addresses are inexact."""

    def detect(self, scene: Scene) -> str:
        """Detect a speed above the limit since the last located use."""
        here = scene.here
        if here is None:
            return ""
        for last in scene.origins():
            there = scene.locate(last.address)
            length = None if there is None else distance(there, here)
            if length is None:
                continue
            hours = max(0.0, scene.observation.time - last.time) / _HOUR
            if not isfinite(length) or length <= self.distance or length <= self.speed * hours:
                return ""
            return f"{length:.0f} km in {hours * 60:.0f} minutes"
        return ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentRefusals:
    """Uses of sessions of the subject through the client were refused lately."""

    name: ClassVar[str] = "recent_refusals"
    weight: int = 20
    rate: Rate = _REFUSALS

    def detect(self, scene: Scene) -> str:
        """Detect an exceeded rate of refusals. The history counts it."""
        return f"more than {self.rate} refusals" if scene.observation.history.refusals > 0 else ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefreshTokenReuse:
    """A refresh token of another session of the subject was reused lately."""

    name: ClassVar[str] = "refresh_token_reuse"
    weight: int = 40
    window: int = 3600
    """Seconds for which a reuse counts."""

    def detect(self, scene: Scene) -> str:
        """Detect a reuse within the window. The history counts it."""
        return "a refresh token of the subject was reused" if scene.observation.history.reuses > 0 else ""


SIGNALS: Final[tuple[type[Signal], ...]] = (
    IssuanceRate,
    RenewalRhythm,
    ConcurrentUse,
    NewDevice,
    NewNetwork,
    NewCountry,
    ImpossibleTravel,
    RecentRefusals,
    RefreshTokenReuse,
)


@lru_cache(maxsize=4096)
def program_of(user_agent: str) -> str:
    """Return a user agent without its versions, which change with each update of a program."""
    return _VERSION.sub("", user_agent)
