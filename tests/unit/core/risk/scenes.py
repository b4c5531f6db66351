"""Observations and locations for the tests of risk."""

from __future__ import annotations

from typing import Any, Final

from token_service.core.risk.judge import RiskJudge
from token_service.core.risk.location import Location
from token_service.core.risk.observation import History, Observation, Seen, Use
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.signals import Signal
from token_service.core.risk.verdict import RiskAction, Verdict

HOME: Final = "192.0.2.10"
OFFICE: Final = "198.51.100.20"
ABROAD: Final = "203.0.113.30"
FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:120.0) Gecko/20100101 Firefox/120.0"
NEWER_FIREFOX: Final = "Mozilla/5.0 (X11; Linux x86_64; rv:131.0) Gecko/20100101 Firefox/131.0"
CURL: Final = "curl/8.5.0"
NOW: Final = 1_800_000_000.0


class FixedLocator:
    """Locates the addresses of this module: Berlin twice, in one network each, and Sydney."""

    _PLACES: Final = {
        HOME: Location("DE", 52.52, 13.40, 20.0, "AS64500"),
        OFFICE: Location("DE", 52.50, 13.45, 20.0, "AS64501"),
        ABROAD: Location("AU", -33.87, 151.21, 20.0, "AS64502"),
    }

    def locate(self, address: str) -> Location | None:
        return self._PLACES.get(address)


def seen(address: str = HOME, ago: float = 60, user_agent: str = FIREFOX, device_id: str = "") -> Seen:
    """Return an origin that was used `ago` seconds before `NOW`."""
    return Seen(NOW - ago, address, user_agent, device_id)


def observe(*origins: Seen, address: str = HOME, user_agent: str = FIREFOX, **others: Any) -> Observation:
    """Return a refresh at `NOW` of a session with access tokens of 1,000 seconds. `others` may name fields of `History`."""
    history = {name: others.pop(name) for name in History.__struct_fields__ if name in others}
    return Observation(
        use=others.pop("use", Use.REFRESH),
        time=NOW,
        address=address,
        user_agent=user_agent,
        access_token_ttl=others.pop("access_token_ttl", 1000.0),
        history=History(origins=origins, **history),
        **others,
    )


def verdict_of(signal: Signal, observation: Observation, *, located: bool = True) -> Verdict:
    """Return the verdict by one signal alone."""
    rules = RiskRules((signal,), {"default": {RiskAction.ALERT: 1}})
    return RiskJudge(rules, FixedLocator() if located else None).judge(observation)
