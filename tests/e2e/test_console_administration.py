"""Clients, keys, policies and the audit trail in Chromium: how they look, and the way through each of their changes."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.e2e.console_world import CLIENTS, HOSTILE, LOOKS, ConsoleWorld
from tests.e2e.pages import assert_policy_kept, assert_sound
from tests.support.chromium import Chromium, Page
from tests.support.deadline import eventually_sync
from token_service.v1 import session_service_pb2 as pb


@pytest.fixture(scope="module")
def world() -> Iterator[ConsoleWorld]:
    with ConsoleWorld() as made:
        yield made


def paths(world: ConsoleWorld) -> dict[str, tuple[str, str]]:
    """Return the path of each page, and a text in it."""
    return {
        "clients": ("clients", HOSTILE),
        "client": (f"clients/client?id={CLIENTS[1]}", "Make another secret"),
        "client-disabling": (f"clients/disabling?id={CLIENTS[1]}", "Nothing has changed yet"),
        "keys": ("keys", "A key signs for"),
        "policies": ("policies", "Settings by classification"),
        "policies-client": (f"policies?client_id={CLIENTS[1]}", f"Settings for {CLIENTS[1]}"),
        "policy-edit": ("policies/edit?setting=internal.rotate", "Show the difference"),
        "policy-file": ("policies/file", "Nothing is stored"),
        "audit": ("audit", "left the company"),
        "audit-explanation": (
            f"audit/explanation?target=session&value={world.sessions[-1]}",
            "left the company",
        ),
    }


@pytest.mark.parametrize("look", LOOKS)
def test_pages_are_sound(world: ConsoleWorld, chromium: Chromium, look: str) -> None:
    page = chromium.page(**LOOKS[look])
    for name, (path, text) in paths(world).items():
        assert text in world.open(page, path).text
        assert page.count("h1") == 1
        assert_sound(page, f"console-{name}-{look}")
    page.close()


@pytest.mark.parametrize("look", LOOKS)
def test_trail_is_verified_and_an_event_shows_its_fields(
    world: ConsoleWorld, chromium: Chromium, look: str
) -> None:
    page = chromium.page(**LOOKS[look])
    world.open(page, f"audit?session_id={world.sessions[-1]}&action=revoked")
    page.keyboard("Tab")
    while page.focused()["tag"] != "summary":
        page.keyboard("Tab")
    page.keyboard("Enter")
    eventually_sync(lambda: "actor_proof" in page.look().text or "cursor" in page.look().text)
    assert_sound(page, f"console-audit-fields-{look}")
    text = page.press("Verify the trail", until="audit/verify$").text
    assert "The trail is intact" in text
    assert_sound(page, f"console-audit-verification-{look}")
    page.close()


@pytest.mark.parametrize("look", LOOKS)
def test_client_is_disabled_after_a_preview_and_the_wait_follows(
    world: ConsoleWorld, chromium: Chromium, look: str
) -> None:
    number = 2 + list(LOOKS).index(look)
    client_id, session_id = CLIENTS[number], world.sessions[number]
    page = chromium.page(**LOOKS[look])
    world.open(page, f"clients/client?id={client_id}")
    shown = page.press("Disable the client…", until="clients/disabling", role="link")
    assert "Nothing has changed yet" in shown.text
    assert world.state(session_id) == pb.SESSION_STATE_ACTIVE
    page.fill("Comment for the audit trail", HOSTILE)
    shown = page.press("Disable the client", until="revocations/wait")
    assert "The revocation is stored." in shown.text
    assert world.state(session_id) == pb.SESSION_STATE_REVOKED
    counts = "7 of 8 validators have confirmed", "All 7 validators have confirmed"
    eventually_sync(lambda: any(each in page.look().text for each in counts))
    assert "The client is disabled" in world.open(page, f"clients/client?id={client_id}").text
    assert_sound(page, f"console-client-disabled-{look}")
    shown = page.press("Who disabled it, and which validators know", until="audit/explanation", role="link")
    assert HOSTILE in shown.text
    world.open(page, f"clients/client?id={client_id}")
    page.press("Enable the client", until=f"clients/client\\?id={client_id}$")
    eventually_sync(lambda: "Disable the client…" in page.look().text)
    page.close()


@pytest.mark.parametrize("look", LOOKS)
def test_policy_changes_after_its_difference_and_not_after_another_change(
    world: ConsoleWorld, chromium: Chromium, look: str
) -> None:
    minutes = 41 + 2 * list(LOOKS).index(look)
    first, second = chromium.page(**LOOKS[look]), chromium.page(**LOOKS[look])
    for page, value in ((first, minutes), (second, minutes + 1)):
        world.open(page, "policies/edit")
        page.fill("Changes:", f'public.access_token_ttl = "{value}m"\n# why\npublic.max_retries = 4')
        text = page.press("Show the difference", until="policies/preview$").text
        assert "public.access_token_ttl" in text
        assert "Not in force yet" in text
    assert_sound(first, f"console-policy-difference-{look}")
    second.press("Put in force", until="/policies$")
    first.fill("Comment for the audit trail", HOSTILE)
    text = first.press("Put in force", until="policies/set$").text
    assert "the policies were changed meanwhile" in text
    assert f'"{minutes + 1}m"' in world.open(second, "policies").text
    assert_sound(second, f"console-policies-overridden-{look}")
    second.close()
    assert_sound(first, f"console-policy-conflict-{look}")
    text = first.press("Show the difference", until="policies/preview$").text
    assert f'"{minutes + 1}m"' in text
    assert f'"{minutes}m"' in text
    first.press("Put in force", until="/policies$")
    assert f'"{minutes}m"' in first.look().text
    text = first.press("Reset public.access_token_ttl", until="policies/reset", role="link").text
    assert f'"{minutes}m"' in text
    assert_sound(first, f"console-policy-reset-{look}")
    first.press("Remove the override", until="/policies$")
    assert f'"{minutes}m"' not in first.look().text
    assert HOSTILE in world.open(first, "audit?action=policies.changed").text
    first.close()


def test_problems_of_changes_and_files_are_shown_beside_the_text(world: ConsoleWorld, page: Page) -> None:
    world.open(page, "policies/edit")
    page.fill("Changes:", "public.access_token_ttl = 5m\nnone.rotate = true")
    text = page.press("Show the difference", until="policies/preview$").text
    assert "is not one value in the notation of the policy file" in text
    assert "no classification 'none'" in text
    assert page.count("textarea[aria-invalid=true]") == 1
    assert_sound(page, "console-policy-problems")
    world.open(page, "policies/file")
    page.fill(
        "Policy file (TOML)", f"# {HOSTILE}\n[classifications.public]\naccess_token_ttl = '1h'\ntypo = 1\n"
    )
    text = page.press("Check", until="policies/check$").text
    assert "typo" in text
    assert_sound(page, "console-policy-file-problems")


def test_secret_is_shown_once(world: ConsoleWorld, chromium: Chromium) -> None:
    page = chromium.page(javaScriptEnabled=False)  # which would ask first
    world.open(page, f"clients/client?id={CLIENTS[0]}")
    text = page.press("Make another secret", until="clients/rotate$").text
    assert text.count("tscs_") == 1
    page.screenshot("console-client-secret")
    text = page.press("I have copied it", until="clients/client", role="link").text
    assert "tscs_" not in text
    page.close()


@pytest.mark.parametrize("look", LOOKS)
def test_key_is_prepared_and_its_retirement_is_explained(
    world: ConsoleWorld, chromium: Chromium, look: str
) -> None:
    page = chromium.page(**LOOKS[look])
    world.open(page, "keys")
    before = page.count(".time-line text.name")
    page.press("Prepare a key", until="/keys$")
    eventually_sync(lambda: page.count(".time-line text.name") == before + 1)
    assert_sound(page, f"console-keys-prepared-{look}")
    active = re.search(r"^(\S+)\s+active\b", page.look().text, re.MULTILINE)
    assert active is not None
    text = page.press(f"Retire {active[1]}", until="keys/retirement", role="link").text
    assert "A retired key signs no new token" in text
    assert_sound(page, f"console-key-retirement-{look}")
    assert_policy_kept(page)
    page.close()
