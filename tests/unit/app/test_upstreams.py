"""The identity providers of a policy file: refused at the start, and kept over a reload."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.config.loaded import load
from token_service.app.access import Access
from token_service.app.check import check
from token_service.app.issuer_keys import IssuerKeys
from token_service.app.upstreams import IdentityProviders
from token_service.clock import SystemClock
from token_service.config.policy_file import PolicyFile
from token_service.core.login.oidc import OidcUpstream
from token_service.errors import ConfigurationError

ISSUER = "https://tokens.example"
UPSTREAM = """
[upstreams.corporate]
kind = "oidc"
issuer = "https://login.example"
client_id = "tokens"
client_secret_file = "SECRET"
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("s")
    return UPSTREAM.replace("SECRET", str(tmp_path / "secret"))


class Loader:
    """Loads one document after another, as a node does."""

    def __init__(self, tmp_path: Path, issuer: str = ISSUER) -> None:
        self.path = tmp_path / "policy.toml"
        self.keys = IssuerKeys(SystemClock())
        self.providers = IdentityProviders(SystemClock(), issuer=issuer)

    def load(self, text: str) -> OidcUpstream:
        self.path.write_text(text)
        document = PolicyFile(self.path, {}).load()
        return self.providers.of(document, self.keys.of(document))["corporate"]


def test_unchanged_provider_is_kept_over_a_reload(tmp_path: Path, text: str) -> None:
    loader = Loader(tmp_path)
    first = loader.load(text)
    other = text.replace("corporate", "other").replace('issuer = "https://login', 'issuer = "https://other')
    assert loader.load(text + other) is first
    changed = loader.load(text + 'scopes = ["openid", "email"]\n')
    assert changed is not first
    assert changed._provider._keys is first._provider._keys  # type: ignore[attr-defined]
    moved = loader.load(text.replace("login.example", "new.example"))
    assert moved._provider._keys is not first._provider._keys  # type: ignore[attr-defined]


def test_document_that_is_refused_changes_nothing(tmp_path: Path, text: str) -> None:
    loader = Loader(tmp_path)
    first = loader.load(text)
    with pytest.raises(ConfigurationError):
        loader.load(text.replace("/secret", "/missing"))
    assert loader.load(text) is first


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("/secret", "/missing", r"upstreams.corporate: client_secret_file: .*missing can't be read"),
        ("login.example", "login.example?a", "upstreams.corporate: .*query"),
        ("https://login.example", ISSUER, "upstreams.corporate: issuer: is this service itself"),
    ],
)
async def test_start_and_check_refuse_an_unusable_provider(
    tmp_path: Path, text: str, old: str, new: str, problem: str
) -> None:
    policies = tmp_path / "policies.toml"
    policies.write_text(text)
    settings = load(
        DATA_DIR=tmp_path / "data", GRPC_ADDRESS="127.0.0.1:0", HTTP_ADDRESS="127.0.0.1:0",
        POLICY_FILE=policies, ISSUER=ISSUER,
    )  # fmt: skip
    await check(settings, {})
    Access(settings, {}, SystemClock())
    policies.write_text(text.replace(old, new))
    with pytest.raises(ConfigurationError, match=problem):
        await check(settings, {})
    with pytest.raises(ConfigurationError, match=problem):
        Access(settings, {}, SystemClock())


def test_issuer_of_this_service_must_be_a_url(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigurationError, match="TOKEN_SERVICE_ISSUER must be a URL"):
        Loader(tmp_path, "tokens").load(text)
