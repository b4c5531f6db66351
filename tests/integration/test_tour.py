"""Everything the README shows is true: the tour, the table of settings, the policies, the links."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from tests.integration.nodes import Node
from tests.integration.tour import GRACE_PERIOD, README, ROOT, SLOWER, Tour, section, shape, steps
from token_service.core.access.permissions import Permission, parse_callers
from token_service.core.policies.policy import DAY, HOUR, MINUTE, Policy, PolicyBook, parse_policy_book


@contextmanager
def tour_server() -> Iterator[Node]:
    """The server the tour talks to, started by the command that it names, in the way that it names."""
    text = README.read_text()
    match = re.search(r"^((?:TOKEN_SERVICE_\w+=\S+ )+)scripts/serve$", text, re.MULTILINE)
    assert match, "the tour does not say how to start the server"
    env = dict(setting.split("=", 1) for setting in match[1].split())
    assert env[GRACE_PERIOD] == "5s"
    env[GRACE_PERIOD] = f"{5 * SLOWER}s"
    env["TOKEN_SERVICE_VENV"] = sys.prefix
    node = Node(env=env, command=(str(ROOT / "scripts" / "serve"),), ready_timeout=100)
    assert node.data_dir  # has chosen the ports by now, and the issuer is one of the things shown
    node._settings["TOKEN_SERVICE_ISSUER"] = node.http_url
    with node:
        yield node


def test_the_tour() -> None:
    tour_steps = steps(README.read_text())
    assert len(tour_steps) > 8
    with tour_server() as node, Tour(node) as tour:
        for step in tour_steps:
            output = tour.run_as_shown(step)
            if step.shown is None:
                assert not output.strip(), f"{step.code}\nprints what the README does not show:\n{output}"
            else:
                assert shape(output) == shape(step.shown), f"{step.code}\nprints now:\n{output}"
        said = node.log_text()
        # What a newcomer can type next.
        assert f"gRPC on {node.grpc_address}" in said
        assert "buf curl" in said
        assert "/.well-known/jwks.json" in said


def test_the_two_commands_are_there() -> None:
    text = README.read_text()
    for command in ("scripts/serve", "scripts/test"):
        assert f"\n{command}\n" in text
        assert os.access(ROOT / command, os.X_OK)
        shown = subprocess.run(
            [ROOT / command, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        assert f"Usage: {command}" in shown.stdout


def test_the_table_of_settings_is_what_the_command_prints() -> None:
    text = README.read_text()
    start, end = section(text, "settings")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    printed = subprocess.run(
        [sys.executable, "-m", "token_service", "config", "--format", "markdown"],
        capture_output=True, text=True, timeout=60, check=True, env=inherited,
    ).stdout  # fmt: skip
    assert text[start:end].strip() == printed.strip()


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value) or "the issuer"
    return str(value)


def _span(seconds: int) -> str:
    for unit, length in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def test_the_policies_are_what_the_code_says() -> None:
    text = README.read_text()
    start, end = section(text, "policies")
    rows = [
        [cell.strip().strip("`") for cell in line.strip().strip("|").split("|")]
        for line in text[start:end].strip().splitlines()
        if not line.startswith("| ---")
    ]
    names = rows[0][1:-1]
    policies = PolicyBook().policies
    assert names == list(policies)
    assert [row[0] for row in rows[1:]] == [each.name for each in fields(Policy)]
    spans = {"access_token_ttl", "refresh_token_ttl", "idle_timeout", "grace_period"}
    for row in rows[1:]:
        values = [getattr(policies[name], row[0]) for name in names]
        assert row[1:-1] == [_span(v) if row[0] in spans else _shown(v) for v in values], row[0]


def test_the_policy_files_shown_are_accepted() -> None:
    shown = _blocks(README.read_text(), "toml")
    assert shown
    for block in shown:
        document = tomllib.loads(block)
        parse_policy_book(document)
        parse_callers(document)
    assert all(permission in README.read_text() for permission in Permission)


def test_every_link_leads_somewhere() -> None:
    for document in (README, ROOT / "protos" / "README.md"):
        for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", document.read_text()):
            assert (document.parent / target).exists(), f"{document.name} links to {target}"
        named = re.findall(r"`((?:token_service|tests|scripts|protos|docs)/[\w/.-]+)`", document.read_text())
        for path in named:
            assert (ROOT / path).exists(), f"{document.name} names {path}"


def test_the_code_of_the_contract_s_readme_runs() -> None:
    blocks = _blocks((ROOT / "protos" / "README.md").read_text(), "python")
    assert blocks
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], timeout=60, check=True)
