from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from token_service.cli import cli

LOGIN = "spiffe://example.org/login"
POLICY = f"""
[callers."{LOGIN}"]
permissions = ["refresh"]

[[callers."{LOGIN}".rights]]
permission = "issue"
clients = ["web"]
scopes = ["orders:*"]
may = ["other_subjects"]

[callers."spiffe://example.org/gateways/*"]
permissions = ["subscribe"]
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.toml"
    path.write_text(POLICY)
    return path


def explain(policy: Path, *arguments: str) -> Result:
    env = {"TOKEN_SERVICE_POLICY_FILE": str(policy)}
    return CliRunner().invoke(cli, ["access", "explain", *arguments], env=env)


@pytest.mark.parametrize(
    ("arguments", "code", "why"),
    [
        (["--caller", LOGIN, "--call", "IssueToken", "--client", "web", "--scope", "orders:read"], 0, "permission issue"),
        (["--caller", LOGIN, "--call", "IssueToken", "--client", "web", "--subject", "alice"], 0, "permission issue"),
        (["--caller", LOGIN, "--call", "IssueToken", "--client", "billing"], 1, "clients excludes 'billing'"),
        (["--caller", LOGIN, "--call", "IssueToken", "--client", "web", "--scope", "admin"], 1, "scopes excludes 'admin'"),
        (["--caller", LOGIN, "--call", "IssueToken", "--client", "web", "--with", "custom_claims"], 1, "may excludes"),
        (["--caller", LOGIN, "--call", "RefreshToken", "--client", "billing"], 0, "permission refresh"),
        (["--caller", LOGIN, "--call", "UpdateSession", "--client", "billing"], 1, "clients excludes 'billing'"),
        (["--caller", LOGIN, "--call", "ListSessions"], 1, "permission admin.read"),
        (["--caller", "spiffe://example.org/gateways/a", "--call", "StreamRevocations"], 0, "subscribe"),
        (["--caller", "a.b", "--caller", LOGIN, "--call", "RefreshToken"], 0, "refresh"),
        (["--caller", "a.b", "--call", "RefreshToken"], 1, "no entry"),
        (["--caller", "a.b", "--call", "GetKeySet"], 0, "needs no permission"),
    ],
)  # fmt: skip
def test_explain_says_what_the_gate_decides(policy: Path, arguments: list[str], code: int, why: str) -> None:
    result = explain(policy, *arguments)
    assert result.exit_code == code, result.output
    assert result.output.startswith("denied: " if code else "allowed: ")
    assert why in result.output


def test_explain_in_json_names_the_entry_and_its_rights(policy: Path) -> None:
    arguments = ("--caller", LOGIN, "--call", "IssueToken", "--client", "web", "-o", "json")
    answer = json.loads(explain(policy, *arguments).output)
    assert answer["allowed"] is True
    assert (answer["permission"], answer["entries"]) == ("issue", [LOGIN])
    assert answer["rights"] == [
        {
            "permission": "issue",
            "clients": ["web"],
            "audiences": [],
            "scopes": ["orders:*"],
            "token_types": [],
            "may": ["other_subjects"],
            "unbounded": False,
        }
    ]


def test_explain_refuses_a_wrong_policy_file(policy: Path) -> None:
    policy.write_text("[callers.a]\nrights = 5\n")
    result = explain(policy, "--caller", "a", "--call", "IssueToken")
    assert result.exit_code == 2
    assert "rights: must be a list of tables" in result.output
