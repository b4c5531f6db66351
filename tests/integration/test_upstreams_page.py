"""The file on docs/upstreams.md is accepted, and its table and numbers match the code."""

from __future__ import annotations

import re
from pathlib import Path

from tests.integration.tour import DOCS, section
from token_service.app.issuer_keys import IssuerKeys
from token_service.app.upstreams import IdentityProviders
from token_service.clock import SystemClock
from token_service.config.policy_file import PolicyFile
from token_service.core.grants.codes import CODE_TTL
from token_service.core.login.oidc import MAX_IDENTITY_BYTES
from token_service.core.login.oidc_settings import SETTINGS
from token_service.tokens.assertions import ASSERTION_ALGORITHMS
from token_service.web.oauth.discovery import LOGOUT_RETURN
from token_service.web.oauth.upstream_logout import BACK_CHANNEL_LOGOUT

TEXT = (DOCS / "upstreams.md").read_text()
(POLICY_FILE,) = re.findall(r"^```toml\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
ISSUER = "https://tokens.example.org"


def test_policy_file_of_the_page_is_accepted(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s3cret")
    file = tmp_path / "policy.toml"
    file.write_text(re.sub(r"/etc/token-service/\w+\.secret", str(tmp_path / "secret"), POLICY_FILE))
    document = PolicyFile(file, {}).load()
    keys = IssuerKeys(SystemClock()).of(document)
    found = IdentityProviders(SystemClock(), issuer=ISSUER).of(document, keys)
    assert list(found) == ["corporate", "partner"]
    corporate, partner = found["corporate"].settings, found["partner"].settings
    assert corporate.subject.of({"sub": "alice"}) == "corporate:alice"
    assert partner.subject.of({"sub": "alice", "tenant": "a"}) == "partner/a/alice"
    assert [each.of({"realm_access": {"roles": ["staff"]}}) for each in corporate.memberships] == [["staff"]]
    assert corporate.acrs_there(("mfa",)) == ("urn:corporate:two-factor",)
    assert corporate.acr_here("urn:other") == ""


def test_table_lists_every_setting() -> None:
    start, end = section(TEXT, "upstreams")
    cells = re.findall(r"^\| (`[^|]+`) \|", TEXT[start:end], re.MULTILINE)
    assert sorted(name for cell in cells for name in re.findall(r"`(\w+)`", cell)) == sorted(SETTINGS)


def test_numbers_and_names_of_the_page_match_the_code() -> None:
    assert set(ASSERTION_ALGORITHMS) - {"Ed25519"} == {"RS256", "PS256", "ES256", "EdDSA"}
    for said in (
        f"at most {MAX_IDENTITY_BYTES} bytes of JSON",
        f"at most {CODE_TTL:g} seconds",
        f"`{ISSUER}/callback/corporate`",
        f"`{ISSUER}{BACK_CHANNEL_LOGOUT}/corporate`",
        f"`{ISSUER}{LOGOUT_RETURN}`",
    ):
        assert said in TEXT, said
