"""The part of docs/security-events.md about sending agrees with the code."""

from __future__ import annotations

import json
import re
from pathlib import Path

from token_service.core.access.gate import RECEIVER_MANAGE
from token_service.core.event_streams import changes, mapping, polling, pushing, stream, troubles
from token_service.core.event_streams.event_types import SUPPORTED
from token_service.core.policies.rights import Permission, Right, parse_rights
from token_service.fetching import event_pushes
from token_service.web.ssf import requests

PAGE = (Path(__file__).parents[4] / "docs" / "security-events.md").read_text().partition("\n## Sending\n")[2]


def test_page_names_the_limits() -> None:
    table = PAGE.partition("### Limits of streams")[2]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \| [^|]+ \|$", table, re.MULTILINE))
    assert rows == {
        "limit": "value",
        "---": "---",
        "streams of one client": f"{stream.MAX_STREAMS}",
        "events that wait in one stream": f"{stream.MAX_WAITING:,}",
        "removed subjects of one stream": f"{stream.MAX_REMOVED_SUBJECTS:,}",
        "requested event types": f"{changes.MAX_EVENT_TYPES} of {changes.MAX_EVENT_TYPE} bytes",
        "events of one poll": f"{polling.MAX_EVENTS}",
        "acknowledged and refused events of one poll": f"{polling.MAX_ACKNOWLEDGED:,}",
        "polls that wait, in each process": f"{polling.MAX_LONG_POLLS}",
        "verification": f"one in {stream.MIN_VERIFICATION_INTERVAL} s",
        "time for a push": f"{event_pushes.PUSH_TIMEOUT:g} s",
        "streams that one node pushes at the same time": f"{pushing.MAX_PUSHED}",
        "body of a request": f"{requests.MAX_BODY // 1024} KiB",
    }


def test_page_names_every_action_that_is_told_and_every_event_type() -> None:
    table = PAGE.partition("### Events that are sent")[2].partition("Only `events_requested`")[0]
    named = set(re.findall(r"`([a-z_.-]+)`", table))
    assert named >= mapping.TOLD
    assert {each.rpartition("/")[2] for each in SUPPORTED} <= named


def test_page_names_the_pauses_between_pushes() -> None:
    assert (troubles.delay_after(1), troubles.delay_after(2), troubles.delay_after(99)) == (1, 2, 300)
    assert "after 1 s, 2 s, and so on up to 5 minutes" in PAGE
    assert f"waits up to {polling.LONG_POLL:g} s" in PAGE


def test_right_on_the_page_is_one() -> None:
    (block,) = re.findall(r"^```json\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)
    registration = json.loads(block)
    assert registration["scopes"] == [RECEIVER_MANAGE]
    assert parse_rights(registration["rights"]) == (
        Right(permission=Permission.RECEIVE_EVENTS, clients=("shop-*",)),
    )
