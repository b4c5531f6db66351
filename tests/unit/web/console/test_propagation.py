"""The times from revocations to the last validator."""

from __future__ import annotations

from tests.unit.web.console.console_app import ConsoleApp


async def revoke_and_confirm(console: ConsoleApp, subject: str, seconds: float) -> None:
    await console.post("revocations/revoke", target="subject", value=subject)
    console.clock.elapsed += seconds
    console.core.subscribers.confirm("orders", console.core.replica.applied)


async def test_chart_and_table_show_the_measured_times(console: ConsoleApp) -> None:
    console.core.subscribers.connect("orders")
    for subject, seconds in (("alice", 0.25), ("bob", 4.0)):
        await revoke_and_confirm(console, subject, seconds)
    chart = (await console.get("propagation/times.json", part=True)).json()
    assert chart["unit"] == "s"
    (series,) = chart["series"]
    assert len(series["values"]) == 2
    assert series["values"][1] - series["values"][0] == 3.75
    assert chart["times"] == sorted(set(chart["times"]))
    page = (await console.get("propagation")).text
    assert "2 revocations measured" in page
    assert "node-1" in page


async def test_page_without_measurements_says_so(console: ConsoleApp) -> None:
    assert "No revocation was measured" in (await console.get("propagation")).text
    chart = (await console.get("propagation/times.json", part=True)).json()
    assert (chart["times"], chart["series"][0]["values"]) == ([], [])
