"""The first page."""

from __future__ import annotations

import html
import re

import pytest

from tests.unit.web.console.console_app import ConsoleApp
from token_service.core.access.caller import Caller
from token_service.core.issuing.commands import IssueCommand
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.sessions.selection import Accuracy, SessionReach
from token_service.tokens.revocation import RevocationTarget


def figure(text: str, label: str) -> str:
    found = re.search(rf"<dt>{re.escape(label)}</dt><dd><span class=\"value\">([^<]*)</span>", text)
    assert found is not None, label
    return html.unescape(found.group(1))


async def test_overview_counts_sessions_revocations_and_validators(console: ConsoleApp) -> None:
    for subject in ("alice", "bob"):
        command = IssueCommand(subject=subject, client_id="web", audience=("https://api.example",))
        await console.core.issuer.issue(Caller.system(), command, console.clock.now())
    await console.core.revoker.revoke(
        Caller.system(), RevokeCommand(target=RevocationTarget.SUBJECT, value="carol"), console.clock.now()
    )
    console.core.subscribers.connect("a", "a")
    text = (await console.get()).text
    assert figure(text, "Live sessions") == "2"
    assert figure(text, "Revocations kept") == "1"
    assert figure(text, "Validators connected") == "1"
    assert figure(text, "Validators behind") == "1"
    assert figure(text, "Nodes") == "1"
    part = (await console.get("overview/state", part=True)).text
    assert "<html" not in part
    assert figure(part, "Live sessions") == "2"


@pytest.mark.parametrize(
    ("accuracy", "says"),
    [
        (Accuracy.EXACT, "counted within 30 s"),
        (Accuracy.ESTIMATE, "estimated from a sample within 30 s"),
    ],
)
async def test_overview_says_how_live_sessions_were_counted(
    console: ConsoleApp, monkeypatch: pytest.MonkeyPatch, accuracy: Accuracy, says: str
) -> None:
    async def reach(*_: object, **__: object) -> SessionReach:
        return SessionReach(sessions=1_000_000, accuracy=accuracy)

    monkeypatch.setattr(type(console.core.ports.stores.selections), "reach", reach)
    text = (await console.get()).text
    assert figure(text, "Live sessions") == "1,000,000"
    assert f'<span class="note">{says}</span>' in text


async def test_problems_come_before_everything_else(console: ConsoleApp) -> None:
    console.clock.elapsed += 200 * 86_400  # the signing key should have been replaced long ago
    problems = (await console.core.cluster.overview.get(Caller.system())).problems
    text = (await console.get()).text
    assert len(problems) > 0
    for each in problems:
        kind, message = each.severity.value, html.escape(each.message, quote=False)
        said = f'<li class="message {kind}"><span class="pill {kind}">{kind}</span> {message}'
        assert 0 < text.replace("&#39;", "'").index(said) < text.index("Validators connected")
    assert "No problem is known." not in text


async def test_overview_lists_keys_and_jobs(console: ConsoleApp) -> None:
    text = (await console.get()).text
    for key in console.core.keyring.signing_keys():
        assert f"<code>{key.key_id}</code>" in text
    for job in ("janitor", "key-rotation", "logout-delivery", "audit-checkpoint"):
        assert f'<th scope="row">{job}</th>' in text
