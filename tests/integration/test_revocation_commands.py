"""Commands about sessions and revocations at two running nodes, on both databases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from tests.integration.nodes import Node, nodes
from token_service.cli import cli


@pytest.fixture(scope="module")
def pair(database_url: str) -> Iterator[list[Node]]:
    with nodes(2, {"TOKEN_SERVICE_DATABASE_URL": database_url}) as found:
        yield found


def run(node: Node, *arguments: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, [*arguments], env={"TOKEN_SERVICE_TARGET": node.grpc_address}, input=stdin)


def document(node: Node, *arguments: str, stdin: str | None = None) -> Any:
    result = run(node, *arguments, "-o", "json", stdin=stdin)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def issue(node: Node, subject: str, client: str = "web") -> str:
    arguments = ("tokens", "issue", "--subject", subject, "--client-id", client, "--print", "refresh_token")
    result = run(node, *arguments)
    assert result.exit_code == 0, result.output
    return result.stdout.strip()


def test_an_operator_previews_revokes_and_lists(pair: list[Node]) -> None:
    one, other = pair
    tokens = [issue(one, "alice") for _ in range(3)]
    kept = issue(one, "alice", "app")

    counted = document(other, "sessions", "count", "--subject", "alice")
    assert (counted["sessions"], counted["accuracy"]) == ("4", "COUNT_ACCURACY_EXACT")
    preview = document(other, "tokens", "revoke", "-", "--dry-run", stdin=tokens[0])
    assert preview["target"].startswith("session ")
    assert (preview["sessions"], preview["already_revoked"]) == ("1", False)
    chosen = ("--subject", "alice", "--client", "web")
    assert document(other, "sessions", "revoke", *chosen, "--dry-run")["sessions"] == "3"
    assert document(other, "revocations", "list") == []

    revoked = document(other, "sessions", "revoke", *chosen, "--comment", "laptop stolen", "--yes")
    assert revoked["sessions"] == "3"
    assert document(one, "sessions", "count", "--subject", "alice")["sessions"] == "1"
    for token in tokens:
        assert run(one, "tokens", "refresh", "-", "--client-id", "web", stdin=token).exit_code == 6
    assert run(one, "tokens", "refresh", "-", "--client-id", "app", stdin=kept).exit_code == 0
    preview = document(one, "tokens", "revoke", "-", "--dry-run", stdin=tokens[0])
    assert (preview["sessions"], preview["already_revoked"]) == ("0", True)

    listed = document(one, "revocations", "list")
    assert [each["comment"] for each in listed] == ["laptop stolen"] * 3
    assert all(each["actor"].startswith("caller:") for each in listed)
    found = document(one, "revocations", "list", "--session", listed[1]["revocation"]["session_id"])
    assert [each["revocation"] for each in found] == [listed[1]["revocation"]]


def test_an_operator_asks_whether_a_key_can_be_retired(pair: list[Node]) -> None:
    node = pair[0]
    (active,) = run(node, "keys", "list", "--state", "active", "-o", "id").stdout.split()
    result = run(node, "keys", "retire", active, "--dry-run", "-o", "json")
    preview = json.loads(result.stdout)
    assert (result.exit_code, preview["allowed"]) == (6, False)
    assert "is published for" in preview["problem"]
    assert preview["allow_time"] < preview["tokens_expire_time"]
    assert run(node, "keys", "list", "--state", "active", "-o", "id").stdout.split() == [active]
