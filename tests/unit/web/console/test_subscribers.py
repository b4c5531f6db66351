"""The page of validators."""

from __future__ import annotations

import html
import re

import pytest

from tests.unit.web.console.console_app import ConsoleApp
from token_service.core.access.caller import Caller
from token_service.core.reports.cluster.subscribers import ConnectedSubscriber
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.subscribers.node_store import ListedSubscriber
from token_service.tokens.revocation import RevocationTarget
from token_service.web.console.pages.subscribers import PAGE_SIZE, state_of

HOSTILE = "<script>alert(1)</script>\"'&"


def names(text: str) -> list[str]:
    return [html.unescape(name) for name in re.findall(r'<th scope="row">([^<]*)</th>', text)]


async def revoke(console: ConsoleApp, subject: str = "alice") -> int:
    done = await console.core.revoker.revoke(
        Caller.system(), RevokeCommand(target=RevocationTarget.SUBJECT, value=subject), console.clock.now()
    )
    return done.cursor.sequence


async def test_the_furthest_behind_comes_first_and_names_are_text(console: ConsoleApp) -> None:
    sequence = await revoke(console)
    subscribers = console.core.subscribers
    for name in ("zebra", HOSTILE):
        subscribers.connect(name, name, f"caller of {name}")
    subscribers.confirm(HOSTILE, sequence)
    text = (await console.get("subscribers")).text
    assert names(text) == ["zebra", HOSTILE]
    assert "<script>alert" not in text
    assert "caller of zebra" in text


async def test_filters_are_kept_and_narrow_the_list(console: ConsoleApp) -> None:
    sequence = await revoke(console)
    subscribers = console.core.subscribers
    for name, caller in (("a", "spiffe://x/a"), ("b", "spiffe://x/a"), ("c", "spiffe://x/c")):
        subscribers.connect(name, name, caller)
    subscribers.confirm("a", sequence)
    assert names((await console.get("subscribers", caller="spiffe://x/a")).text) == ["b", "a"]
    text = (await console.get("subscribers", caller="spiffe://x/a", behind="1")).text
    assert names(text) == ["b"]
    assert 'value="spiffe://x/a"' in text
    assert "checked" in text
    assert 'hx-get="/console/subscribers/rows?caller=spiffe%3A%2F%2Fx%2Fa&amp;behind=1"' in text
    assert (
        "No validator is connected that matches the filter."
        in (await console.get("subscribers", caller=HOSTILE)).text
    )


async def test_ten_thousand_validators_come_in_pages(console: ConsoleApp) -> None:
    await revoke(console)
    for number in range(10_000):
        console.core.subscribers.connect(f"{number:05}", f"validator-{number:05}")
    seen: list[str] = []
    token = text = ""
    for _ in range(3):
        text = (await console.get("subscribers", page_token=token)).text
        seen += names(text)
        found = re.search(r'href="/console/subscribers\?page_token=([^"&]+)" rel="next"', text)
        assert found is not None
        token = found.group(1)
    assert seen == [f"validator-{number:05}" for number in range(3 * PAGE_SIZE)]
    assert 'href="/console/subscribers">First page' in text
    assert len(text) < 200_000


async def test_unusable_page_token_is_an_error_page(console: ConsoleApp) -> None:
    answer = await console.get("subscribers", page_token="x")
    assert answer.status_code == 400
    assert "page_token" in answer.text
    part = await console.get("subscribers/rows", part=True, page_token="x")
    assert part.status_code == 400
    assert "<html" not in part.text


@pytest.mark.parametrize(
    ("behind", "silent", "connected_for", "age", "state"),
    [
        (0, False, 100.0, 1.0, ("ok", "up to date")),
        (3, False, 100.0, 1.0, ("info", "catching up")),
        (3, False, 100.0, 60.0, ("warning", "behind")),
        (3, False, 2.0, None, ("info", "catching up")),
        (3, False, 100.0, None, ("warning", "behind")),
        (3, True, 100.0, 1.0, ("critical", "silent")),
        (0, True, 100.0, 1.0, ("critical", "silent")),
    ],
)
def test_state_of_a_validator(
    behind: int, *, silent: bool, connected_for: float, age: float | None, state: tuple[str, str]
) -> None:
    listed = ListedSubscriber(
        subscriber="a",
        name="a",
        caller="",
        sequence=1,
        connected_for=connected_for,
        confirmation_age=age,
        is_silent=silent,
    )
    assert state_of(ConnectedSubscriber(listed, "node-1", 0.0, None, behind)) == state
