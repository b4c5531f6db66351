"""What each signal detects, and what it leaves alone."""

from __future__ import annotations

import pytest

from tests.unit.core.risk.scenes import (
    ABROAD,
    CURL,
    FIREFOX,
    HOME,
    NEWER_FIREFOX,
    NOW,
    OFFICE,
    observe,
    seen,
    verdict_of,
)
from token_service.core.policies.rates import Rate
from token_service.core.risk.observation import Observation, Use
from token_service.core.risk.signals import (
    ConcurrentUse,
    ImpossibleTravel,
    IssuanceRate,
    NewCountry,
    NewDevice,
    NewNetwork,
    RecentRefusals,
    RefreshTokenReuse,
    RenewalRhythm,
    Signal,
)


def detail(signal: Signal, observation: Observation, *, located: bool = True) -> str:
    verdict = verdict_of(signal, observation, located=located)
    assert verdict.score == sum(each.weight for each in verdict.evidence)
    return verdict.evidence[0].detail if verdict.evidence else ""


@pytest.mark.parametrize(
    ("signal", "observation", "expected"),
    [
        (IssuanceRate(rate=Rate(5, 60)), observe(issuances=1), "more than 5/1m issuances"),
        (RecentRefusals(rate=Rate(3, 600)), observe(refusals=1), "more than 3/10m refusals"),
        (RefreshTokenReuse(), observe(reuses=1), "a refresh token of the subject was reused"),
        (
            RenewalRhythm(part=10, times=3),
            observe(renewed=NOW - 99, quick_renewals=2),
            "3 renewals in a row, each within 10 % of the lifetime",
        ),
        (
            ConcurrentUse(window=300),
            observe(seen(ABROAD, 10), seen(HOME, 20), address=HOME),
            "two networks in turn within 300 s",
        ),
        (NewDevice(), observe(seen(device_id="one"), device_id="two"), "another device id than before"),
        (NewDevice(), observe(seen(), user_agent=CURL), "another user agent than before"),
        (NewDevice(), observe(seen(), user_agent=""), "no user agent, unlike before"),
        (NewNetwork(), observe(seen(HOME), address=OFFICE), "another network than before"),
        (NewCountry(), observe(seen(HOME), address=ABROAD), "from AU, another country than before"),
        (ImpossibleTravel(), observe(seen(HOME, 3600), address=ABROAD), "16055 km in 60 minutes"),
    ],
)
def test_signal_is_detected(signal: Signal, observation: Observation, expected: str) -> None:
    assert detail(signal, observation) == expected


@pytest.mark.parametrize(
    ("signal", "observation"),
    [
        (IssuanceRate(), observe()),
        (RecentRefusals(), observe()),
        (RefreshTokenReuse(), observe()),
        (RenewalRhythm(part=10, times=3), observe(renewed=NOW - 100, quick_renewals=2)),
        (RenewalRhythm(part=10, times=3), observe(renewed=NOW - 1, quick_renewals=1)),
        (RenewalRhythm(part=10, times=1), observe(renewed=NOW - 1, use=Use.EXTEND)),
        (RenewalRhythm(part=10, times=1), observe(renewed=None)),
        (ConcurrentUse(), observe(seen(HOME, 10), address=ABROAD)),  # a move
        (ConcurrentUse(), observe(seen(HOME, 10), seen(ABROAD, 20), address=HOME)),
        (ConcurrentUse(window=300), observe(seen(ABROAD, 10), seen(HOME, 301), address=HOME)),
        (ConcurrentUse(window=300), observe(seen(ABROAD, 301), seen(HOME, 302), address=HOME)),
        (ConcurrentUse(), observe(seen(ABROAD, 10), seen("", 20), address="")),
        (NewDevice(), observe()),
        (NewDevice(), observe(seen(user_agent=FIREFOX), user_agent=NEWER_FIREFOX)),
        (NewDevice(), observe(seen(user_agent=""), user_agent=CURL)),
        (NewDevice(), observe(seen(device_id=""), device_id="two")),
        (NewDevice(), observe(seen(device_id="one"))),
        (NewDevice(), observe(seen(), seen(user_agent=""), user_agent="")),
        (NewDevice(), observe(seen(), address="", user_agent="")),
        (NewNetwork(), observe()),
        (NewNetwork(), observe(seen(OFFICE, 10), seen(HOME, 20), address=HOME)),
        (NewNetwork(), observe(seen(""), address=HOME)),
        (NewNetwork(), observe(seen(HOME), address="")),
        (NewCountry(), observe(seen(HOME), address=OFFICE)),
        (NewCountry(), observe(seen("10.0.0.1"), address=ABROAD)),
        (NewCountry(), observe(seen(HOME), address="10.0.0.1")),
        (ImpossibleTravel(), observe(seen(HOME, 17 * 3600), address=ABROAD)),
        (ImpossibleTravel(), observe(seen(HOME, 0), address=OFFICE)),
        (ImpossibleTravel(), observe(seen("10.0.0.1", 0), address=ABROAD)),
    ],
)
def test_signal_stays_silent(signal: Signal, observation: Observation) -> None:
    assert detail(signal, observation) == ""


@pytest.mark.parametrize("signal", [NewCountry(), ImpossibleTravel()])
def test_without_a_database_of_addresses_no_location_is_known(signal: Signal) -> None:
    assert detail(signal, observe(seen(HOME, 0), address=ABROAD), located=False) == ""


def test_networks_without_a_database_are_addresses_and_ipv6_prefixes() -> None:
    neighbors = observe(seen("2001:db8:0:1::5"), address="2001:db8:0:1::6")
    strangers = observe(seen("2001:db8:0:1::5"), address="2001:db8:0:2::5")
    assert detail(NewNetwork(), neighbors, located=False) == ""
    assert detail(NewNetwork(), strangers, located=False) == "another network than before"


def test_travel_is_measured_from_the_last_located_origin() -> None:
    observation = observe(seen("10.0.0.1", 1), seen(HOME, 1800), address=ABROAD)
    assert detail(ImpossibleTravel(), observation) == "16055 km in 30 minutes"


def test_a_clock_that_went_back_counts_as_no_time() -> None:
    assert detail(ImpossibleTravel(), observe(seen(HOME, -60), address=ABROAD)) == "16055 km in 0 minutes"
