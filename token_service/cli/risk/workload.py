"""A synthetic workload: days of many users with their habits, and attacks among them. The seed decides everything.

Users have a laptop at home and at work, and a phone on Wi-Fi and on the mobile network. Some travel, some switch a VPN on and
off, some callers report no address. Each attack uses a session of a user, or the password of one.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from token_service.core.risk.location import Location
from token_service.core.risk.observation import Use
from token_service.core.risk.replay import RecordedUse

START: Final = 1_796_083_200.0
"""The midnight at which the workload begins, in seconds since the Unix epoch."""
TTL: Final = 900.0
_DAY: Final = 86_400.0
_CITIES: Final = (
    ("DE", 52.52, 13.4),
    ("DE", 48.14, 11.58),
    ("FR", 48.86, 2.35),
    ("ES", 40.42, -3.7),
    ("PL", 52.23, 21.01),
    ("US", 40.71, -74.0),
    ("US", 37.77, -122.42),
    ("BR", -23.55, -46.63),
    ("JP", 35.68, 139.69),
    ("NG", 6.52, 3.38),
)
_PROGRAMS: Final = (
    "Mozilla/5.0 (X11; Linux x86_64) Firefox/{}.0",
    "Mozilla/5.0 (Windows NT 10.0) Chrome/{}.0",
    "Mozilla/5.0 (Macintosh) Safari/{}.1",
)
_PHONE: Final = "ExampleApp/{}.2 (Android 17)"
_TOOL: Final = "python-requests/2.33"

ATTACKS: Final = {
    "token_abroad": "stolen token, used in another country by a tool",
    "token_abroad_same_agent": "stolen token, another country, the usual user agent",
    "token_same_country": "stolen token, used in the same country by a tool",
    "token_same_network": "stolen token, the usual network and user agent",
    "token_loop": "stolen token, renewed every 20 seconds",
    "token_farm": "tokens for one subject every half second",
}
"""The attacks, and what they do."""


class WorkloadLocator:
    """Implements `Locator` for the addresses of the workload: 10.CITY.NETWORK.HOST."""

    def locate(self, address: str) -> Location | None:
        """See `Locator.locate`."""
        if not address:
            return None
        _, city, network, _ = address.split(".")
        country, latitude, longitude = _CITIES[int(city)]
        return Location(country, latitude, longitude, 20.0, f"AS{64_500 + 100 * int(city) + int(network)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSize:
    """How much is made."""

    users: int = 200
    days: int = 7
    incidents: int = 20
    """Incidents of each attack."""
    seed: int = 1


class _User:
    def __init__(self, number: int, chance: random.Random) -> None:
        self.subject = f"user-{number}"
        self.chance = chance
        self.city = chance.randrange(len(_CITIES))
        self.home, self.work, self.mobile = (
            1 + chance.randrange(9),
            10 + chance.randrange(9),
            20 + chance.randrange(3),
        )
        self.program = chance.choice(_PROGRAMS)
        self.version = 120 + chance.randrange(8)
        self.has_vpn = chance.random() < 0.05
        self.reports_address = chance.random() >= 0.02
        self.travels_on = chance.randrange(7) if chance.random() < 0.05 else None
        self.last: dict[str, RecordedUse] = {}
        """The last use of each session."""

    def address(self, network: int, city: int | None = None) -> str:
        if not self.reports_address:
            return ""
        return f"10.{self.city if city is None else city}.{network}.{1 + self.chance.randrange(250)}"

    def day(self, day: int) -> Iterator[RecordedUse]:
        """Return the uses of one day."""
        chance, start = self.chance, START + day * _DAY
        if chance.random() < 0.1:
            self.version += 1  # an update of the browser
        city, away = self.city, self.travels_on == day
        for name, program, client in (("laptop", self.program, "web"), ("phone", _PHONE, "app")):
            agent = program.format(self.version)
            session = f"{self.subject}/{name}"
            time = start + 7 * 3600 + chance.random() * 7200
            if session not in self.last:
                yield self.use(time, session, client, self.address(self.home), agent, use=Use.ISSUE)
            end = start + 20 * 3600 + chance.random() * 7200
            while (time := time + TTL * (1 + chance.random() * 2)) < end:
                hour = (time - start) / 3600
                at_work = 9 < hour < 17
                if away and hour > 14:
                    city = (self.city + 1) % len(_CITIES)
                    if hour < 16 + _hours(self.city, city):
                        continue  # in the air
                if name == "phone":
                    # The phone changes between Wi-Fi and the mobile network, now and then back within minutes.
                    network = self.mobile if chance.random() < 0.3 else self.work if at_work else self.home
                else:
                    network = self.work if at_work else self.home
                address = self.address(network, city)
                if self.has_vpn and name == "laptop" and chance.random() < 0.1:
                    address = self.address(30, (self.city + 3) % len(_CITIES))
                yield self.use(time, session, client, address, agent)
                if chance.random() < 0.02:  # two tabs
                    yield self.use(time + chance.random() * 20, session, client, address, agent)

    def use(
        self, time: float, session: str, client: str, address: str, agent: str, use: Use = Use.REFRESH
    ) -> RecordedUse:
        made = RecordedUse(
            time=time,
            use=use,
            session_id=session,
            subject=self.subject,
            client_id=client,
            address=address,
            user_agent=agent,
        )
        self.last[session] = made
        return made


def make_workload(size: WorkloadSize) -> list[RecordedUse]:
    """Return the uses in the order of their times. The uses of an attack have its kind and number in `attack`."""
    chance = random.Random(size.seed)  # noqa: S311 - the workload must be the same each time
    users = [_User(number, random.Random(chance.random())) for number in range(size.users)]  # noqa: S311
    uses = [use for user in users for day in range(size.days) for use in user.day(day)]
    by_session: dict[str, list[RecordedUse]] = {}
    for use in uses:
        by_session.setdefault(use.session_id, []).append(use)
    sessions = sorted(session for session in by_session if session.endswith("/laptop"))
    chance.shuffle(sessions)
    spoiled: dict[str, float] = {}
    attacks = []
    for kind in ATTACKS:
        for number in range(size.incidents):
            session = sessions[(len(spoiled)) % len(sessions)]
            own = sorted(by_session[session], key=lambda use: use.time)
            before = own[len(own) // 2]
            spoiled[session] = before.time
            attacks += list(_attack(kind, f"{kind}/{number}", before, chance))
    # The user of a stolen token finds it used: the next use is a reuse, which ends the session, and a login follows.
    kept = [use for use in uses if not (use.session_id in spoiled and use.time > spoiled[use.session_id])]
    return sorted([*kept, *attacks], key=lambda use: use.time)


def _attack(kind: str, name: str, victim: RecordedUse, chance: random.Random) -> Iterator[RecordedUse]:
    _, city, _, _ = (victim.address or "10.0.1.1").split(".")
    abroad = (int(city) + 5) % len(_CITIES)
    address, agent, times, pause = victim.address, victim.user_agent, 3, TTL
    if kind.startswith("token_abroad"):
        address = f"10.{abroad}.40.{1 + chance.randrange(250)}"
    elif kind == "token_same_country":
        address = f"10.{city}.41.{1 + chance.randrange(250)}"
    if kind in {"token_abroad", "token_same_country"}:
        agent = _TOOL
    if kind == "token_loop":
        times, pause = 10, 20.0
    if kind == "token_farm":
        times, pause = 200, 0.5
    for number in range(times):
        yield RecordedUse(
            time=victim.time + 60 + number * pause,
            use=Use.ISSUE if kind == "token_farm" else Use.REFRESH,
            session_id=f"{victim.session_id}/{name}" if kind == "token_farm" else victim.session_id,
            subject=victim.subject,
            client_id=victim.client_id,
            address=address,
            user_agent=agent,
            attack=name,
        )


def _hours(city: int, other: int) -> float:
    """Return the hours of a flight."""
    from token_service.core.risk.location import distance

    one, two = (Location("", *_CITIES[each][1:]) for each in (city, other))
    return (distance(one, two) or 0.0) / 800
