"""The keys on their time line, and the changes of their states."""

from __future__ import annotations

import re

from tests.unit.web.console.console_app import ConsoleApp
from token_service.core.keys.lifecycle import PUBLISHED_AFTER_RETIREMENT
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.reports.cluster.overview import KeyEntry
from token_service.tokens.algorithms import Algorithm
from token_service.web.console.pages.key_time_line import WIDTH, time_line

DAY = 86_400.0


def key(
    key_id: str,
    state: SigningKeyState,
    *,
    create: float,
    activate: float | None = None,
    retire: float | None = None,
    revoke: float | None = None,
) -> StoredSigningKey:
    return StoredSigningKey(
        key_id=key_id,
        algorithm=Algorithm.ES256,
        state=state,
        public_key=b"",
        private_key=b"",
        wrapping_key_id="",
        create_time=create,
        activate_time=activate,
        retire_time=retire,
        revoke_time=revoke,
    )


async def test_page_has_each_key_in_the_picture_and_in_the_table(console: ConsoleApp) -> None:
    await console.post("keys/prepare")
    page = (await console.get("keys")).text
    for each in console.core.keyring.signing_keys():
        assert page.count(each.key_id) >= 3
    assert "<style" not in page
    assert not re.search(r"\sstyle=", page)


async def test_key_is_prepared_activated_and_retired(console: ConsoleApp) -> None:
    (old,) = [each for each in console.core.keyring.signing_keys() if each.state is SigningKeyState.ACTIVE]
    known = {each.key_id for each in console.core.keyring.signing_keys()}
    assert (await console.post("keys/prepare")).status_code == 303
    (new,) = {each.key_id for each in console.core.keyring.signing_keys()} - known
    early = await console.post("keys/activate", id=new)
    assert early.status_code == 400
    assert "KEY_NOT_ANNOUNCED" in early.text
    assert (await console.post("keys/activate", id=new, force="1")).status_code == 303
    states = {each.key_id: each.state for each in console.core.keyring.signing_keys()}
    assert states[new] is SigningKeyState.ACTIVE
    assert states[old.key_id] is SigningKeyState.RETIRED


async def test_retirement_is_previewed_and_changes_nothing(console: ConsoleApp) -> None:
    (active,) = [each for each in console.core.keyring.signing_keys() if each.state is SigningKeyState.ACTIVE]
    shown = await console.get("keys/retirement", id=active.key_id)
    assert shown.status_code == 200
    assert "Its tokens stay valid until they expire." in shown.text
    assert console.core.keyring.get(active.key_id).state is SigningKeyState.ACTIVE


async def test_unknown_key_is_not_found(console: ConsoleApp) -> None:
    assert (await console.get("keys/retirement", id="none")).status_code == 404
    assert (await console.post("keys/retire", id="none")).status_code == 404
    assert (await console.post("keys/activate", id="none", force="2")).status_code == 400


def test_time_line_has_one_scale_for_all_keys() -> None:
    now = 100 * DAY
    entries = [
        KeyEntry(key("active", SigningKeyState.ACTIVE, create=60 * DAY, activate=70 * DAY), 110 * DAY),
        KeyEntry(key("prepared", SigningKeyState.PREPARED, create=90 * DAY), 110 * DAY),
        KeyEntry(
            key("retired", SigningKeyState.RETIRED, create=10 * DAY, activate=10 * DAY, retire=70 * DAY),
            70 * DAY + PUBLISHED_AFTER_RETIREMENT,
        ),
    ]
    picture = time_line(entries, now)
    scale = WIDTH / (100 * DAY)
    assert picture.now == round(90 * DAY * scale, 2)
    active, prepared, retired = picture.lines
    assert [(bar.state, bar.x, bar.width) for bar in active.bars] == [
        ("prepared", round(50 * DAY * scale, 2), round(10 * DAY * scale, 2)),
        ("active", round(60 * DAY * scale, 2), round(40 * DAY * scale, 2)),
    ]
    assert [(bar.state, bar.start_time, bar.end_time) for bar in prepared.bars] == [
        ("prepared", 90 * DAY, 110 * DAY)
    ]
    assert [bar.state for bar in retired.bars] == ["active", "retired"]
    assert [time for _, time in picture.ticks] == [10 * DAY, 35 * DAY, 60 * DAY, 85 * DAY, 110 * DAY]


def test_revoked_key_ends_at_its_revocation() -> None:
    revoked = key("k", SigningKeyState.REVOKED, create=10 * DAY, activate=20 * DAY, revoke=30 * DAY)
    (line,) = time_line([KeyEntry(revoked, None)], 50 * DAY).lines
    assert [(bar.state, bar.end_time) for bar in line.bars] == [("prepared", 20 * DAY), ("active", 30 * DAY)]


def test_time_line_without_keys_is_empty() -> None:
    picture = time_line([], 100.0)
    assert picture.lines == []
    assert len(picture.ticks) == 5


def test_times_far_from_now_stay_on_the_picture() -> None:
    odd = key("k", SigningKeyState.ACTIVE, create=0.0, activate=0.0)
    (line,) = time_line([KeyEntry(odd, 1e12)], 1e9).lines
    assert all(0 <= bar.x <= WIDTH for bar in line.bars)
