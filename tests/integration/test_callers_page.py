"""The files on docs/callers.md are accepted, and its tables and numbers match the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from tests.integration.tour import DOCS, section
from token_service.cli.clients.administration import chosen_settings
from token_service.config.policy_file import PolicyFile
from token_service.config.settings import SETTINGS
from token_service.core.access.authenticator import rights_of_client
from token_service.core.access.caller import Proof
from token_service.core.access.client_authentication import (
    FAILURE_WINDOW,
    MAX_ASSERTION_LIFETIME,
    MAX_FAILURES,
)
from token_service.core.access.foreign_issuers import MAX_ISSUERS, MAX_LIFETIME
from token_service.core.access.names import matches
from token_service.core.access.rights import Rights
from token_service.core.access.workloads import WorkloadIssuer
from token_service.core.clients.client import AuthMethod, Client
from token_service.core.clients.validation import check_metadata
from token_service.core.limits import Checks
from token_service.core.policies.rights import Permission
from token_service.tokens.assertions import ASSERTION_ALGORITHMS, MAX_ASSERTION_BYTES

TEXT = (DOCS / "callers.md").read_text()
CLIENT_FILE, POLICY_FILE = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_client_of_the_page_is_accepted_and_has_its_rights(tmp_path: Path) -> None:
    file = tmp_path / "client.toml"
    file.write_text(CLIENT_FILE)
    client = Client(client_id="batch", create_time=0, update_time=0, **chosen_settings(file, {}))
    checks = Checks()
    check_metadata(checks, client, ())
    checks.done()
    rights = Rights(rights_of_client(client))
    own = Permission.REFRESH, Permission.REVOKE
    assert rights.permissions == {Permission.ISSUE, Permission.VALIDATE, *own}
    for permission in (Permission.ISSUE, *own):
        assert rights.cover_client(permission, "batch")
        assert not rights.cover_client(permission, "web")
    assert all(f"`{method}`" in TEXT for method in AuthMethod)


def test_policy_file_of_the_page_names_its_workloads(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY_FILE)
    document = PolicyFile(file, {}, unbounded_issue=False).load()
    assert list(document.workload_issuers) == ["mesh", "cluster-a"]
    assert document.workload_issuers["cluster-a"].private
    for name in (
        "spiffe://example.org/gateways/eu-1",
        "workload:cluster-a:system:serviceaccount:shop:checkout",
    ):
        (rights,) = matches(document.callers, name)
        assert Permission.VALIDATE in rights.permissions


def test_table_of_proofs_lists_every_proof() -> None:
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| (?:`(\w+)`)? ?\|", TEXT, re.MULTILINE)
    assert sorted(name for name, _ in rows if name in tuple(Proof)) == sorted(Proof)
    assert {address for _, address in rows if address} <= {setting.name for setting in SETTINGS}


def test_table_of_workload_issuers_lists_every_setting() -> None:
    start, end = section(TEXT, "workload-issuers")
    listed = re.findall(r"^\| `(\w+)` \|", TEXT[start:end], re.MULTILINE)
    assert sorted(listed) == sorted(each.name for each in fields(WorkloadIssuer) if each.name != "name")


def test_numbers_of_the_page_match_the_code() -> None:
    assert FAILURE_WINDOW == 60
    for said in (
        f"After {MAX_FAILURES} failures within a minute",
        f"an `exp` at most {MAX_ASSERTION_LIFETIME:g} s ahead",
        f"an `exp` at most {MAX_LIFETIME / 3600:g} h ahead",
        f"At most {MAX_ISSUERS} entries",
        f"have at most {MAX_ASSERTION_BYTES // 1024} KiB",
        "TOKEN_SERVICE_REPLICA_POLL_INTERVAL` (250 ms)",
    ):
        assert said in TEXT, said
    assert ASSERTION_ALGORITHMS.keys() == {"RS256", "PS256", "ES256", "EdDSA", "Ed25519"}
    assert "signed with RS256, PS256, ES256 or EdDSA (also named Ed25519, RFC 9864)" in TEXT
