"""The charts of the overview."""

from __future__ import annotations

from tests.unit.core.virtual_time import START, ManualClock
from tests.unit.web.console.console_app import ConsoleApp
from token_service.telemetry import registry
from token_service.telemetry.board import Board, MetricsShare, Writer
from token_service.telemetry.page import Page
from token_service.web.console.history import CHARTS, METRICS, SAMPLES, Chart, History

TOKENS, REVOKED, SUBSCRIBERS = registry.TOKENS.name, registry.REVOKED.name, registry.SUBSCRIBERS.name


def chart(name: str) -> Chart:
    return next(each for each in CHARTS if each.name == name)


class Metrics:
    """A history of values that a test sets."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.values: dict[str, dict[tuple[str, ...], list[float]]] = {}
        self.history = History(lambda: self.values, self.clock, "node-1")

    def sample(self, seconds: float = 5.0) -> None:
        self.clock.elapsed += seconds
        self.history.sample()

    def lines(self, name: str) -> list[list[float | None]]:
        return [line["values"] for line in self.history.data(chart(name))["series"]]


def test_counters_become_rates_of_their_first_label() -> None:
    metrics = Metrics()
    for issued, refreshed in ((0, 0), (10, 5), (40, 5)):
        metrics.values[TOKENS] = {
            ("issued", "access", "direct", "web"): [float(issued)],
            ("issued", "refresh", "direct", "web"): [float(issued)],
            ("refreshed", "access", "refresh_token", "web"): [float(refreshed)],
        }
        metrics.sample()
    assert metrics.lines("tokens") == [[4.0, 12.0], [1.0, 0.0], [0.0, 0.0]]
    assert metrics.history.data(chart("tokens"))["times"] == [START + 10, START + 15]


def test_counter_that_begins_again_has_no_rate() -> None:
    metrics = Metrics()
    for value in (100.0, 3.0, 8.0):
        metrics.values[REVOKED] = {("session", "logout"): [value]}
        metrics.sample()
    assert metrics.lines("revocations") == [[None, 1.0]]


def test_gauge_without_a_value_is_a_gap() -> None:
    metrics = Metrics()
    metrics.sample()
    metrics.sample()
    metrics.values[SUBSCRIBERS] = {(): [7.0]}
    metrics.sample()
    assert metrics.lines("validators")[0] == [None, 7.0]


def test_staleness_is_the_highest_and_not_the_sum() -> None:
    metrics = Metrics()
    metrics.values[registry.SUBSCRIBER_STALENESS.name] = {("max",): [3.0], ("p99",): [1.0]}
    metrics.sample()
    metrics.sample()
    assert metrics.lines("staleness") == [[3.0], [1.0]]


def test_clock_that_goes_back_gives_no_rate() -> None:
    metrics = Metrics()
    metrics.values[REVOKED] = {("session", "logout"): [1.0]}
    metrics.sample()
    metrics.sample(-5.0)
    assert metrics.lines("revocations") == [[None]]


def test_ring_keeps_thirty_minutes() -> None:
    metrics = Metrics()
    for _ in range(SAMPLES + 100):
        metrics.sample()
    data = metrics.history.data(chart("revocations"))
    assert len(data["times"]) == SAMPLES - 1 == 360
    assert data["times"][-1] - data["times"][0] == 5.0 * 359
    assert len(metrics.history.minutes(chart("revocations"))) in {30, 31}


def test_table_has_the_average_of_each_minute_latest_first() -> None:
    metrics = Metrics()
    metrics.clock.elapsed = -START % 60  # a full minute
    metrics.history.sample()
    for number in range(1, 24):
        metrics.values[REVOKED] = {("session", "logout"): [number * 10.0]}
        metrics.sample()
    rows = metrics.history.minutes(chart("revocations"))
    assert [values for _, values in rows] == [(2.0,), (2.0,)]
    assert rows[0][0] - rows[1][0] == 60


def test_history_reads_the_metrics_of_all_workers() -> None:
    board = Board(2)
    for number, connected in enumerate((3.0, 4.0)):
        segment = MetricsShare(board, number).segment
        place = Writer(segment, lambda _: True).place(SUBSCRIBERS, (), 1)
        segment.numbers[place] = connected
        segment.beat()
    page = Page(board, registry.REGISTRY, {}, registry.WORKERS)
    history = History(lambda: page.values(METRICS), ManualClock(), "node-1")
    history.sample()
    history.sample()
    assert history.data(chart("validators"))["series"][0]["values"] == [7.0]


async def test_chart_is_data_for_scripts_and_a_table_for_people(console: ConsoleApp) -> None:
    for _ in range(3):
        console.clock.elapsed += 5
        console.history.sample()
    for each in CHARTS:
        data = (await console.get("overview/chart", name=each.name)).json()
        assert [line["label"] for line in data["series"]] == [line.title for line in each.lines]
        assert data["source"] == "node-1:42"
        assert {len(line["values"]) for line in data["series"]} == {len(data["times"])} == {2}
        text = (await console.get("overview/values", name=each.name)).text
        assert f"<h1>{each.title} of node node-1:42</h1>" in text
    assert (await console.get("overview/chart", name="secrets")).status_code == 400
