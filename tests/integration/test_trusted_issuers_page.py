"""The file on docs/trusted-issuers.md is accepted, and its table and numbers match the code."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path

from tests.integration.tour import DOCS, section
from token_service.app.issuer_keys import IssuerKeys, trusted_issuers
from token_service.clock import SystemClock
from token_service.config.policy_file import PolicyFile
from token_service.core.access.foreign_issuers import MAX_LIFETIME
from token_service.core.grants.assertion_profiles import Presented, problem_of
from token_service.core.grants.global_revocation import MAX_REVOCATION_LIFETIME, REVOCATION_TYPE
from token_service.core.grants.subjects import MEMBERSHIPS
from token_service.core.grants.trusted_issuers import ID_JAG_TYPE, MAX_AGE, AssertionKind, TrustedIssuer
from token_service.tokens.assertions import MAX_ASSERTION_BYTES

TEXT = (DOCS / "trusted-issuers.md").read_text()
(POLICY_FILE,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_policy_file_of_the_page_is_accepted(tmp_path: Path) -> None:
    file = tmp_path / "policy.toml"
    file.write_text(POLICY_FILE)
    document = PolicyFile(file, {}).load()
    keys = IssuerKeys(SystemClock()).of(document)
    trusted = trusted_issuers(document, keys, "https://tokens.example.org")
    assert sorted(trusted.names) == ["acme", "cluster-a", "mesh", "self"]
    assert trusted.subject_of("https://login.acme.example", "alice") == "acme:alice"
    acme = document.trusted_issuers["acme"]
    claims = {"sub": "alice", "aud": "shop-at-acme", "iat": 100, "realm_access": {"roles": ["staff"]}}
    shown = Presented(AssertionKind.ID_TOKEN, claims, acme, "app", acme.audiences, 100 + 600)
    assert problem_of(shown) == ""
    assert problem_of(shown._replace(now=701)) == "it was issued more than 600 s ago"
    assert [each.of(claims) for each in acme.memberships] == [["staff"]]


def test_table_lists_every_setting() -> None:
    start, end = section(TEXT, "trusted-issuers")
    cells = re.findall(r"^\| (`[^|]+`) \|", TEXT[start:end], re.MULTILINE)
    listed = [name for cell in cells for name in re.findall(r"`(\w+)`", cell)]
    settings = {each.name for each in fields(TrustedIssuer)} - {"name", "memberships"} | set(MEMBERSHIPS)
    assert sorted(listed) == sorted(settings)


def test_numbers_and_names_of_the_page_match_the_code() -> None:
    assert MAX_AGE == 3600
    for said in (
        f"`exp` at most {MAX_LIFETIME / 3600:g} h ahead",
        f"At most {MAX_ASSERTION_BYTES // 1024} KiB",
        f"`exp` is at most {MAX_REVOCATION_LIFETIME / 60:g} min ahead",
        f"`typ` is `{ID_JAG_TYPE}`",
        f"`typ` is `{REVOCATION_TYPE}`",
        *(f"`{kind}`" for kind in AssertionKind),
    ):
        assert said in TEXT, said
