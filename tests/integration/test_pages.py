"""Every page is correct: its links lead somewhere, its tables match the code, and a test runs its blocks."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from dataclasses import fields
from pathlib import Path
from typing import Any, cast

import pytest

from tests.integration.tour import DOCS, README, ROOT, section
from tests.support.reference import reference
from token_service.core.access.callers import parse_callers
from token_service.core.policies.policy import DAY, HOUR, MINUTE, Policy, PolicyBook, parse_policy_book
from token_service.core.policies.rates import OF_CALLERS, parse_caller_rates, parse_class_rates
from token_service.core.policies.rights import Permission
from token_service.core.risk.rules import parse_risk_rules
from token_service.core.risk.signals import SIGNALS

CONTRACT = ROOT / "protos" / "README.md"
VECTORS = ROOT / "tests" / "vectors" / "validation" / "README.md"
EXAMPLES = [
    *(ROOT / "examples" / name / "README.md" for name in ("go", "node")),
    *(ROOT / "deploy").rglob("*.md"),
]
PAGES = sorted([*ROOT.glob("*.md"), CONTRACT, VECTORS, *EXAMPLES, *DOCS.rglob("*.md")])
RUN_BY = {
    "README.md": "tests/integration/test_tour.py",
    "docs/tour.md": "tests/integration/test_tour.py",
    "docs/browser-sessions.md": "tests/integration/bff/test_browser_sessions_page.py",
    "docs/pinning.md": "tests/integration/client/test_pinning_page.py",
    "docs/token-sources.md": "tests/integration/client/test_token_sources_page.py",
    "docs/client.md": "tests/integration/client/test_client_page.py",
    "docs/frameworks.md": "tests/integration/client/test_frameworks_page.py",
    "docs/personal-data.md": "tests/unit/cli/test_personal_data.py",
    "docs/risk.md": "tests/integration/test_risk_page.py",
    "docs/gateways.md": "tests/unit/gateway/test_page.py",
    "docs/keys.md": "tests/integration/keys/test_keys_page.py",
    "docs/clients.md": "tests/integration/test_clients_page.py",
    "docs/fapi.md": "tests/integration/test_clients_page.py",
    "docs/oauth.md": "tests/integration/test_oauth_page.py",
    "docs/personal-access-tokens.md": "tests/integration/test_clients_page.py",
    "docs/restore.md": "tests/integration/test_restore_page.py",
    "docs/debugging.md": "tests/integration/test_debugging_page.py",
    "docs/operations.md": "tests/integration/test_operations_page.py",
    "docs/events.md": "tests/integration/test_events_page.py",
    "docs/audit.md": "tests/integration/test_audit_page.py",
    "docs/reports.md": "tests/integration/test_reports_page.py",
    "docs/subjects.md": "tests/integration/test_subjects.py",
    "docs/automatic-revocation.md": "tests/integration/test_automatic_revocation.py",
    "docs/console.md": "tests/integration/test_console_page.py",
    "docs/cli.md": "tests/integration/test_cli_page.py",
    "docs/production.md": "tests/integration/test_production_page.py",
    "docs/deployment.md": "tests/e2e/test_deploy_pods.py",
    "docs/callers.md": "tests/integration/test_callers_page.py",
    "docs/trusted-issuers.md": "tests/integration/test_trusted_issuers_page.py",
    "docs/login.md": "tests/integration/test_login_page.py",
    "docs/logout.md": "tests/integration/test_logout.py",
    "docs/security-events.md": "tests/integration/test_security_events_page.py",
    "docs/upstreams.md": "tests/integration/test_upstreams_page.py",
    "docs/token-exchange.md": "tests/integration/test_exchange.py",
    "docs/device-flow.md": "tests/integration/test_device_flow.py",
    "docs/testing.md": "tests/unit/testing/test_pytest_plugin.py",
    "docs/redis-layout.md": "tests/contract/test_redis_layout_page.py",
    "docs/other-languages.md": "tests/e2e/test_node_example.py",
    "docs/policies.md": "tests/integration/test_pages.py",
    "examples/node/README.md": "tests/e2e/test_node_example.py",
    "protos/README.md": "tests/integration/test_pages.py",
    "deploy/gateways/caddy/README.md": "tests/e2e/test_caddy_gateway.py",
    "deploy/gateways/envoy/README.md": "tests/e2e/test_envoy_gateway.py",
    "deploy/gateways/nginx/README.md": "tests/e2e/test_nginx_gateway.py",
}
"""The test that runs the blocks of a page. A page with commands or code needs a line here."""
SECTIONS = {
    "README.md": "readme",
    "docs/tour.md": "tour",
    "docs/cli.md": "cli",
    "docs/client.md": "client",
    "docs/debugging.md": "debugging",
    "docs/deployment.md": "deployment",
    "docs/events.md": "events",
    "docs/oauth.md": "oauth",
    "docs/operations.md": "operations",
    "docs/production.md": "production",
    "docs/token-exchange.md": "exchange",
    "docs/login.md": "login",
}
"""The section whose blocks the test runs. For a page without a line here, the test runs all blocks."""
COMMANDS = ("scripts/serve", "scripts/test")
"""The blocks of the README outside its section."""
_RUNNABLE = {"sh", "python", "toml", "js"}


def test_the_commands_of_the_readme_exist_and_explain_themselves() -> None:
    text = README.read_text()
    for command in COMMANDS:
        assert f"\n{command}\n" in text
        assert os.access(ROOT / command, os.X_OK)
        shown = subprocess.run(
            [ROOT / command, "--help"], capture_output=True, text=True, timeout=60, check=True
        )
        assert f"Usage: {command}" in shown.stdout


def test_the_table_of_settings_is_what_the_command_prints() -> None:
    text = (DOCS / "configuration.md").read_text()
    start, end = section(text, "settings")
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("TOKEN_SERVICE_")}
    printed = subprocess.run(
        [sys.executable, "-m", "token_service", "config", "--format", "markdown"],
        capture_output=True, text=True, timeout=60, check=True, env=inherited,
    ).stdout  # fmt: skip
    assert text[start:end].strip() == printed.strip()


def _blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


UNSET = {"default_audience": "the issuer", "allowed_custom_claims": "any", "rates": "none"}
"""What an empty list or table of a policy stands for."""


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ", ".join(value)
    return str(value)


def _span(seconds: int) -> str:
    for unit, length in (("d", DAY), ("h", HOUR), ("m", MINUTE)):
        if seconds >= length and seconds % length == 0:
            return f"{seconds // length}{unit}"
    return f"{seconds}s"


def test_the_table_of_policies_matches_the_code() -> None:
    text = (DOCS / "policies.md").read_text()
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
    spans = {
        "access_token_ttl",
        "id_token_ttl",
        "transaction_token_ttl",
        "refresh_token_ttl",
        "idle_timeout",
        "grace_period",
        "refresh_race_window",
        "personal_access_token_ttl",
    }
    for row in rows[1:]:
        values = [getattr(policies[name], row[0]) for name in names]
        if row[0] in UNSET:
            assert not any(values)
            values = [UNSET[row[0]]] * len(values)
        assert row[1:-1] == [_span(v) if row[0] in spans else _shown(v) for v in values], row[0]


def test_the_table_of_rates_matches_the_code() -> None:
    text = (DOCS / "policies.md").read_text()
    start, end = section(text, "rates")
    rows = [
        [re.findall(r"`(\w+)`", cell) for cell in line.split("|")] for line in text[start:end].splitlines()
    ]
    operations = [cells[1][0] for cells in rows if len(cells) > 1 and cells[1]]
    of_classes = [name for cells in rows if len(cells) > 1 and cells[1] for name in cells[3]]
    of_callers = [name for cells in rows if len(cells) > 1 and cells[1] for name in cells[4]]
    assert operations == of_callers == list(OF_CALLERS)
    parse_caller_rates(dict.fromkeys(of_callers, "1/1s"))
    assert len(of_classes) == len(parse_class_rates(dict.fromkeys(of_classes, "1/1s")))
    with pytest.raises(ValueError) as caught:
        parse_class_rates({"": ""})
    assert f"allowed: {', '.join(of_classes)}" in str(caught.value)


def test_the_table_of_rules_about_risk_matches_the_code() -> None:
    text = (DOCS / "policies.md").read_text()
    start, end = section(text, "risk")
    rows = [
        [cell.strip() for cell in line.split("|")][1:-1]
        for line in text[start:end].strip().splitlines()
        if line.startswith("| `")
    ]
    assert [row[0].strip("`") for row in rows] == [signal.name for signal in SIGNALS]
    for (_, weight, settings, what), signal in zip(rows, SIGNALS, strict=True):
        names = [each.name for each in fields(cast("Any", signal)) if each.name != "weight"]
        document = tomllib.loads("\n".join(re.findall(r"`(.+?)`", settings)))
        assert list(document) == names
        rules = parse_risk_rules({"risk": {"rules": {signal.name: {"weight": int(weight), **document}}}})
        assert rules.signals == (signal(),)
        assert what == (signal.__doc__ or "").partition("\n")[0]


def test_the_policy_files_shown_are_accepted() -> None:
    shown = _blocks((DOCS / "policies.md").read_text(), "toml")
    assert shown
    for block in shown:
        document = tomllib.loads(block)
        parse_callers(document)
        parse_risk_rules(document, parse_policy_book(document).policies)
    assert all(permission in (DOCS / "policies.md").read_text() for permission in Permission)


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings of a page."""
    titles = re.findall(r"^#+ (.+)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_and_path_leads_somewhere(page: Path) -> None:
    text = re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text):
        path = page.parent / target if target else page
        assert path.exists(), f"links to {target}"
        if anchor:
            assert anchor in anchors(path), f"links to {target}#{anchor}"
    if page.name == "CHANGELOG.md":
        return  # it describes earlier states
    for path in re.findall(r"`((?:token_service|tests|scripts|protos|docs)/[\w/.-]+)(?:::\w+)?`", text):
        assert (ROOT / path).exists(), f"names {path}"


def not_run(name: str, text: str) -> list[str]:
    """Return the blocks of a page that no test runs."""
    begin, end = 0, len(text)
    if name not in RUN_BY:
        end = 0
    elif name in SECTIONS:
        begin, end = section(text, SECTIONS[name])
    return [
        block[2].strip()
        for block in re.finditer(r"^ *```(\w+)\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
        if block[1] in _RUNNABLE and not begin <= block.start() < end
    ]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_block_of_a_page_is_run(page: Path) -> None:
    name, text = str(page.relative_to(ROOT)), page.read_text()
    assert not_run(name, text) == (list(COMMANDS) if name == "README.md" else [])
    if name in RUN_BY:
        runnable = set(re.findall(r"^ *```(\w+)$", text, re.MULTILINE)) & _RUNNABLE
        assert runnable or name == "docs/redis-layout.md", "has no blocks"
        assert (ROOT / RUN_BY[name]).exists()


def test_a_block_that_no_test_runs_is_found() -> None:
    text = "```sh\nfirst\n```\n<!-- tour:begin -->\n```python\nsecond\n```\n<!-- tour:end -->\n  ```toml\n  third\n  ```\n"
    assert not_run("docs/another.md", text) == ["first", "second", "third"]
    assert not_run("docs/tour.md", text) == ["first", "third"]
    assert not_run("docs/keys.md", text) == []


def test_the_index_lists_every_page() -> None:
    index = (DOCS / "README.md").read_text()
    for page in DOCS.glob("*.md"):
        assert page.name == "README.md" or f"]({page.name})" in index, page.name


def test_the_reference_matches_the_code() -> None:
    assert (DOCS / "reference" / "client.md").read_text() == reference(), "run scripts/gen-reference"


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 300


def test_the_code_of_the_contract_readme_runs() -> None:
    blocks = _blocks(CONTRACT.read_text(), "python")
    assert blocks
    for block in blocks:
        subprocess.run([sys.executable, "-c", block], timeout=60, check=True)
