"""What a process counts and remembers, and for how long."""

from __future__ import annotations

from typing import Final

from tests.unit.core.virtual_time import virtual_time
from token_service.core.access.counters import Counters
from token_service.core.policies.rates import Rate
from token_service.core.risk.history import format_history, parse_history
from token_service.core.risk.observation import History, Seen
from token_service.core.risk.rules import NO_RULES, RiskRules
from token_service.core.risk.signals import IssuanceRate, RecentRefusals, RefreshTokenReuse
from token_service.core.risk.watch import MAX_MARKS, RiskWatch

RULES: Final = RiskRules(
    (
        IssuanceRate(rate=Rate(2, 60)),
        RecentRefusals(rate=Rate(1, 600)),
        RefreshTokenReuse(window=3600),
    )
)


class Time:
    """A monotonic clock that a test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Shared:
    """Counters that two processes share."""

    server = "test"

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}

    async def take(self, log: str, key: str, rate: Rate) -> float:
        self.counts[key] = self.counts.get(key, 0) + 1
        return 0.0 if self.counts[key] <= rate.amount else float(rate.period)

    async def ping(self) -> None:
        pass


def a_watch(shared: Shared | None = None, rules: RiskRules = RULES) -> tuple[RiskWatch, Time]:
    time = Time()
    watch = RiskWatch(Counters(time, shared), time, log=lambda: "log")
    watch.replace(rules)
    return watch, time


@virtual_time
async def test_rate_is_exceeded_by_the_next_one_and_forgotten_after_its_window() -> None:
    watch, time = a_watch()
    for _ in range(2):
        await watch.count_issuance("web", "alice")
    assert (watch.has_marks, watch.marks_of("web", "alice")) == (False, History())
    await watch.count_issuance("web", "alice")
    assert (watch.has_marks, watch.marks_of("web", "alice")) == (True, History(issuances=1))
    assert watch.marks_of("web", "bob") == watch.marks_of("app", "alice") == History()
    time.now += 130
    assert (watch.has_marks, watch.marks_of("web", "alice")) == (False, History())


@virtual_time
async def test_refusals_and_reuses_have_marks_of_their_own() -> None:
    watch, time = a_watch()
    for _ in range(2):
        await watch.count_refusal("web", "alice")
    watch.note_reuse("web", "alice")
    assert watch.marks_of("web", "alice") == History(refusals=1, reuses=1)
    time.now += 3599
    assert watch.marks_of("web", "alice") == History(reuses=1)
    time.now += 1
    assert watch.marks_of("web", "alice") == History()


@virtual_time
async def test_what_no_rule_needs_is_not_counted() -> None:
    shared = Shared()
    watch, _ = a_watch(shared, NO_RULES)
    await watch.count_issuance("web", "alice")
    await watch.count_refusal("web", "alice")
    watch.note_reuse("web", "alice")
    assert (watch.is_on, watch.has_marks, shared.counts) == (False, False, {})


@virtual_time
async def test_processes_that_share_counters_count_together() -> None:
    shared = Shared()
    one, _ = a_watch(shared)
    other, _ = a_watch(shared)
    for watch in (one, one, other):
        await watch.count_issuance("web", "alice")
    assert one.marks_of("web", "alice") == History()
    assert other.marks_of("web", "alice") == History(issuances=1)
    (key,) = shared.counts
    assert "alice" not in key


@virtual_time
async def test_oldest_mark_gives_way_to_a_new_one() -> None:
    watch, _ = a_watch()
    for number in range(MAX_MARKS + 1):
        watch.note_reuse("web", str(number))
    assert watch.marks_of("web", "0") == History()
    assert watch.marks_of("web", "1") == watch.marks_of("web", str(MAX_MARKS)) == History(reuses=1)
    watch.note_reuse("web", "1")  # the newest now
    watch.note_reuse("web", "one more")
    assert watch.marks_of("web", "1") == History(reuses=1)
    assert watch.marks_of("web", "2") == History()


def test_history_survives_its_text() -> None:
    history = History(
        origins=(Seen(1.5, "192.0.2.1", 'Firef\u00f6x "1"', "phone"), Seen(0.5)), quick_renewals=2
    )
    assert parse_history(format_history(history)) == history


def test_text_that_is_no_history_is_an_empty_one() -> None:
    for text in ("", "{}", "[1]", '[[["x"]]]', "null", "\0"):
        assert parse_history(text) == History()
