"""The pictures of tables."""

from __future__ import annotations

from token_service.cli.reports.charts import BARS, HEIGHT, LANES, WIDTH, Bar, Line, Span, picture
from token_service.core.reports.trail.document import Cell, Chart, Column, Table
from token_service.core.reports.trail.period import Period

DAY = Period.of(1_795_996_800, 1_796_083_200)


def table(chart: Chart | None, names: str, *rows: tuple[Cell, ...]) -> Table:
    return Table(
        name="t", title="T", columns=[Column(name, name) for name in names.split()], rows=rows, chart=chart
    )


def test_lines_have_one_scale_and_leave_out_zeros() -> None:
    found = picture(table(Chart.LINES, "day a b c", ("d1", 0, 0, 5), ("d2", 10, 0, 5), ("d3", 5, 0, 5)), DAY)
    assert found is not None
    middle = (64 + WIDTH) / 2
    assert found.lines == [
        Line("a", 1, f"64.0,{HEIGHT}.0 {middle},0.0 {WIDTH}.0,{HEIGHT / 2}"),
        Line("c", 3, f"64.0,{HEIGHT / 2} {middle},{HEIGHT / 2} {WIDTH}.0,{HEIGHT / 2}"),
    ]
    assert found.x_ticks == [(64.0, "d1"), (middle, "d2"), (float(WIDTH), "d3")]
    assert found.y_ticks == [(0.0, "10"), (float(HEIGHT), "0")]


def test_line_of_one_interval_has_a_length() -> None:
    found = picture(table(Chart.LINES, "day a", ("d1", 2)), DAY)
    assert found is not None
    assert found.lines == [Line("a", 1, f"64.0,0.0 {WIDTH}.0,0.0")]


def test_bars_are_sums_or_first_numbers() -> None:
    rows = (("x", "y", 6, 2), ("", "", 4, 0))
    sums = picture(table(Chart.BARS, "k l n m", *rows), DAY)
    firsts = picture(table(Chart.FIRST_BARS, "k l n m", *rows), DAY)
    assert sums is not None
    assert firsts is not None
    assert sums.bars == [Bar("x y", 580.0, 8, 0), Bar("—", 290.0, 4, 24)]
    assert [bar.value for bar in firsts.bars] == [6, 4]


def test_picture_tells_how_many_rows_it_leaves_out() -> None:
    bars = picture(table(Chart.BARS, "k n", *((f"k{number}", 1) for number in range(BARS + 3))), DAY)
    lanes = picture(
        table(Chart.LANES, "k a t", *((f"k{number}", "", "") for number in range(LANES + 2))), DAY
    )
    assert bars is not None
    assert lanes is not None
    assert (len(bars.bars), bars.more, len(lanes.lanes), lanes.more) == (BARS, 3, LANES, 2)


def test_lane_has_a_span_from_each_step_to_the_next() -> None:
    names = "key algorithm prepared activated revoked"
    row = ("k-1", "ES256", "2026-11-30T06:00:00Z", "2026-11-30T12:00:00Z", "")
    found = picture(table(Chart.LANES, names, row), DAY)
    assert found is not None
    (lane,) = found.lanes
    assert (lane.label, lane.spans) == (
        "k-1 ES256",
        [
            Span("prepared", 465.0, 165.0, "2026-11-30T06:00:00Z", "2026-11-30T12:00:00Z"),
            Span("activated", 630.0, 330.0, "2026-11-30T12:00:00Z", "2026-12-01T00:00:00Z"),
        ],
    )
    assert [text for _, text in found.x_ticks][:2] == ["2026-11-30", "2026-11-30 06:00"]


def test_table_without_rows_or_numbers_has_no_picture() -> None:
    assert picture(table(Chart.BARS, "k n"), DAY) is None
    assert picture(table(None, "k n", ("x", 1)), DAY) is None
    assert picture(table(Chart.LINES, "day a", ("d1", 0)), DAY) is None
