"""`token-service audit` and `explain-revocation` on an SQLite database."""

from __future__ import annotations

import asyncio
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from token_service.app.adapters import audit_keys_of, open_stores
from token_service.cli import cli
from token_service.config import load_settings, prepare_data_dir
from token_service.core.events.event import Action, Actor, AuditEvent, Origin, Target
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.tokens.revocation import RevocationTarget

LOGIN = Actor("caller", "spiffe://example.org/login", proof="certificate")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data directory whose trail has three events: a session of alice, its revocation, and a renewal."""
    directory = tmp_path / "data"
    asyncio.run(_fill(directory))
    return directory


async def _fill(directory: Path) -> None:
    settings = load_settings({"data_dir": str(directory)}, {})
    prepare_data_dir(directory)
    async with open_stores(settings, await audit_keys_of(settings), "node-1") as stores:
        await stores.migrate()
        issued = AuditEvent(
            action=Action.TOKEN_ISSUED,
            actor=LOGIN,
            target=Target("token", "t-1", "alice", "s-1", "web"),
            origin=Origin("192.0.2.1", "Firefox"),
        )
        await stores.audit.append([issued])
        draft = draft_of(RevocationTarget.SUBJECT, "alice", 1_800_000_000.0, comment="left\x1b[31m")
        await stores.log.append([replace(draft, event=event_of(draft, LOGIN))])
        renewed = AuditEvent(
            action=Action.LOG_RENEWED, actor=Actor("operator", "root@db"), target=Target("log")
        )
        await stores.audit.append([renewed])


def run(data: Path, *arguments: str) -> Result:
    environ = {"TOKEN_SERVICE_DATA_DIR": str(data)}
    return CliRunner().invoke(cli, arguments, env=environ, prog_name="token-service")


def sql(data: Path, statement: str) -> None:
    connection = sqlite3.connect(data / "token_service.db")
    with connection:
        connection.execute(statement)
    connection.close()


def test_list_shows_a_table_newest_first_without_control_characters(data: Path) -> None:
    result = run(data, "audit", "list")
    assert result.exit_code == 0, result.output
    header, *rows = result.stdout.splitlines()
    assert header.split() == ["TIME", "ACTION", "ACTOR", "TARGET", "SUBJECT", "CLIENT", "OUTCOME", "REASON"]
    assert [row.split()[1] for row in rows] == ["log.renewed", "revoked", "token.issued"]
    assert "subject:alice" in rows[1]
    assert "\\u001b" in rows[1]
    assert "\x1b" not in result.stdout


def test_list_filters_and_pages(data: Path) -> None:
    first = run(data, "audit", "list", "--subject", "alice", "--limit", "1", "-o", "json")
    assert [each["action"] for each in json.loads(first.stdout)] == ["revoked"]
    token = first.stderr.split("--page-token ")[1].strip()
    second = run(
        data, "audit", "list", "--subject", "alice", "--limit", "1", "-o", "json", "--page-token", token
    )
    (event,) = json.loads(second.stdout)
    assert (event["action"], event["session_id"], event["ip_address"]) == ("token.issued", "s-1", "192.0.2.1")
    assert second.stderr == ""
    for option, value, actions in (
        ("--session", "s-1", ["token.issued"]),
        ("--client", "web", ["token.issued"]),
        ("--actor", "root@db", ["log.renewed"]),
        ("--action", "revoked", ["revoked"]),
        ("--until", "2020-01-01", []),
        ("--since", "2020-01-01T00:00:00Z", ["log.renewed", "revoked", "token.issued"]),
    ):
        listed = json.loads(run(data, "audit", "list", option, value, "-o", "json").stdout)
        assert [each["action"] for each in listed] == actions, option


def test_wrong_conditions_are_refused(data: Path) -> None:
    assert "is no time such as" in run(data, "audit", "list", "--since", "yesterday").stderr
    assert "actions[0]: is none of" in run(data, "audit", "list", "--action", "revoke").stderr


def test_verify_tells_where_the_trail_was_changed(data: Path) -> None:
    intact = run(data, "audit", "verify")
    assert intact.exit_code == 0
    assert "3 events in 1 chains and 0 checkpoints verified" in intact.stdout
    assert "found only with --checkpoint" in intact.stderr
    sql(data, "UPDATE audit_events SET actor_name = 'mallory' WHERE position = 2")
    changed = run(data, "audit", "verify")
    assert changed.exit_code == 1
    assert "node-1:2: was changed, or is not in its place" in changed.stdout


def test_export_proves_that_the_end_of_the_trail_was_cut_off(data: Path, tmp_path: Path) -> None:
    exported = run(data, "audit", "export")
    lines = [json.loads(line) for line in exported.stdout.splitlines()]
    assert [line.get("action") for line in lines] == ["token.issued", "revoked", "log.renewed", None]
    file = tmp_path / "audit.jsonl"
    file.write_text(exported.stdout)
    assert run(data, "audit", "verify", "--checkpoint", str(file)).exit_code == 0
    sql(data, "DELETE FROM audit_checkpoints")
    sql(data, "DELETE FROM audit_events WHERE position = 3")
    sql(
        data,
        "UPDATE audit_chains SET last_position = 2, last_mac = (SELECT mac FROM audit_events WHERE position = 2)",
    )
    assert run(data, "audit", "verify").exit_code == 0
    found = run(data, "audit", "verify", "--checkpoint", str(file))
    assert found.exit_code == 1
    assert "node-1:2: the events 3 to 3 are missing" in found.stdout
    file.write_text("{}")
    assert "no checkpoint in its last line" in run(data, "audit", "verify", "--checkpoint", str(file)).stderr


def test_erase_removes_a_subject_from_the_database_and_the_trail_still_verifies(data: Path) -> None:
    assert run(data, "audit", "erase", "--subject", "alice").exit_code == 1  # nothing confirms it
    erased = run(data, "audit", "erase", "--subject", "alice", "--yes")
    assert erased.stdout == "erased the personal fields of 2 events\n"
    assert run(data, "audit", "verify").exit_code == 0
    listed = run(data, "audit", "list").stdout
    assert "alice" not in listed
    assert "(erased)" in listed
    (event, *_) = json.loads(run(data, "audit", "list", "-o", "json").stdout)
    assert (event["action"], event["actor_kind"]) == ("audit.erased", "operator")
    assert "@" in event["actor_name"]


def test_explain_revocation_tells_who_when_and_why(data: Path) -> None:
    result = run(data, "explain-revocation", "--subject", "alice", "-o", "json")
    (event,) = json.loads(result.stdout)
    assert (event["actor_name"], event["comment"]) == (LOGIN.name, "left\x1b[31m")
    assert run(data, "explain-revocation", "--subject", "bob").exit_code == 1
    assert run(data, "explain-revocation", "--subject", "bob", "--everything").exit_code == 2
    assert run(data, "explain-revocation").exit_code == 2
