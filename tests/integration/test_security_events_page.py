"""The file on docs/security-events.md is accepted, and its tables and numbers match the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.integration.tour import DOCS, section
from token_service.app.issuer_keys import IssuerKeys
from token_service.app.security_events import Transmitters
from token_service.clock import SystemClock
from token_service.config.policy_file import PolicyFile
from token_service.core.security_events.event_types import BY_NAME, EventAction
from token_service.core.security_events.poller import LEASE_TTL
from token_service.core.security_events.receiver import EVENTS_PER_MINUTE, SESSION_LATE, SUBJECT_LATE
from token_service.core.security_events.refusal import SetErrorCode
from token_service.core.security_events.subjects import Named
from token_service.core.security_events.transmitters import MAX_AGE, POLL_INTERVAL, SETTINGS
from token_service.errors import ConfigurationError
from token_service.tokens.assertions import ASSERTION_ALGORITHMS
from token_service.web.security_events import SECURITY_EVENTS

TEXT = (DOCS / "security-events.md").read_text()
(POLICY_FILE,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def _file(tmp_path: Path) -> PolicyFile:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY_FILE.replace("/etc/token-service", str(tmp_path)))
    return PolicyFile(file, {})


def test_policy_file_of_the_page_is_accepted(tmp_path: Path) -> None:
    for name in re.findall(r"/etc/token-service/([\w-]+\.secret)", POLICY_FILE):
        (tmp_path / name).write_text("s3cret")
    document = _file(tmp_path).load()
    found = Transmitters(issuer="https://tokens.example.org").of(
        document, IssuerKeys(SystemClock()).of(document)
    )
    corporate, partner = found["corporate"], found["partner"]
    assert (corporate.poll, corporate.push_token is None) == (None, False)
    assert (partner.poll is None, partner.push_token) == (False, None)
    alice = {"format": "iss_sub", "iss": corporate.settings.issuer, "sub": "alice"}
    assert corporate.settings.subjects.named_by(alice) == Named("corporate:alice")
    assert partner.settings.subjects.named_by({**alice, "iss": partner.settings.issuer}) == Named(
        "partner:alice"
    )
    assert partner.settings.subjects.named_by({"format": "email", "email": "a@b"}) == Named("partner/a@b")


def test_file_without_its_secrets_is_refused(tmp_path: Path) -> None:
    document = _file(tmp_path).load()
    with pytest.raises(
        ConfigurationError, match=r"security_event_transmitters\.corporate: push\.token_file: "
    ):
        Transmitters(issuer="https://tokens.example.org").of(document, IssuerKeys(SystemClock()).of(document))


def test_table_lists_every_setting() -> None:
    start, end = section(TEXT, "transmitters")
    cells = re.findall(r"^\| `(\w+)` \|", TEXT[start:end], re.MULTILINE)
    assert sorted(cells) == sorted(SETTINGS)


def test_table_lists_every_event_with_its_default_and_reason() -> None:
    start, end = section(TEXT, "events")
    rows = re.findall(r"^\| `([\w-]+)` \| `(\w+)` \| (\w+) \|$", TEXT[start:end], re.MULTILINE)
    assert rows == [(name, each.default.value, each.reason.name) for name, each in BY_NAME.items()]
    harmless = {name: each.harmless for name, each in BY_NAME.items() if each.harmless is not None}
    assert len(harmless) == 3
    for name, (member, values) in harmless.items():
        (value,) = values
        assert re.search(rf"`{name}` with the `{member}` `{value}`", " ".join(TEXT.split())), name
    assert all(f"| `{action}` |" in TEXT for action in EventAction)


def test_numbers_and_names_of_the_page_match_the_code() -> None:
    said = " ".join(TEXT.split())
    for text in (
        f"by default `{MAX_AGE / 86400:g}d`",
        f"by default `{POLL_INTERVAL:g}s`",
        f"up to {SUBJECT_LATE:g} seconds later",
        f"up to {SESSION_LATE:g} seconds later",
        f"more than {EVENTS_PER_MINUTE} valid tokens",
        f"within {LEASE_TTL:g} seconds of its death",
        f"`https://tokens.example.org{SECURITY_EVENTS}/corporate`",
        *(f"`{code}`" for code in SetErrorCode),
    ):
        assert text in said, text
    algorithms = re.search(r"the accepted algorithms: ([\w, ]+)", said)
    assert algorithms is not None
    assert set(algorithms[1].strip().split(", ")) == set(ASSERTION_ALGORITHMS)
