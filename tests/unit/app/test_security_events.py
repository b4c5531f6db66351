"""The transmitters of a policy file, with the files that it names."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.unit.config.loaded import load
from token_service.app.access import Access
from token_service.app.check import check
from token_service.app.issuer_keys import IssuerKeys
from token_service.app.security_events import Transmitters
from token_service.clock import SystemClock
from token_service.config.policy_file import PolicyFile
from token_service.core.security_events.transmitters import ConnectedTransmitter
from token_service.errors import ConfigurationError, StoreUnavailableError

ISSUER = "https://tokens.example.org"
TEXT = """
[security_event_transmitters.idp]
issuer = "https://idp.example"
keys = "https://idp.example/keys"
audience = "https://tokens.example.org"
algorithms = ["ES256"]
push.token_file = "SECRET"
poll.endpoint = "https://idp.example/poll"
poll.token_file = "SECRET"
"""


@pytest.fixture
def text(tmp_path: Path) -> str:
    (tmp_path / "secret").write_text("s3cret\n")
    return TEXT.replace("SECRET", str(tmp_path / "secret"))


class Loader:
    def __init__(self, directory: Path) -> None:
        self.path = directory / "policy.toml"
        self.keys = IssuerKeys(SystemClock())
        self.transmitters = Transmitters(issuer=ISSUER)

    def load(self, text: str) -> Mapping[str, ConnectedTransmitter]:
        self.path.write_text(text)
        document = PolicyFile(self.path, {}).load()
        return self.transmitters.of(document, self.keys.of(document))


def test_unchanged_transmitter_is_kept_over_a_reload(tmp_path: Path, text: str) -> None:
    loader = Loader(tmp_path)
    first = loader.load(text)["idp"]
    other = text.replace("idp", "other")
    assert loader.load(text + other)["idp"] is first
    changed = loader.load(text + "\n[security_event_transmitters.idp.events]\naccount-disabled = 'ignore'")[
        "idp"
    ]
    assert changed is not first
    assert changed.keys is first.keys
    with pytest.raises(ConfigurationError):
        loader.load(text.replace("/secret", "/missing"))
    assert (
        loader.load(text + "\n[security_event_transmitters.idp.events]\naccount-disabled = 'ignore'")["idp"]
        is changed
    )


async def test_token_of_pushes_is_read_again(tmp_path: Path, text: str) -> None:
    read = Loader(tmp_path).load(text)["idp"].push_token
    assert read is not None
    assert await read() == "s3cret"
    (tmp_path / "secret").write_text("other")
    assert await read() == "other"
    (tmp_path / "secret").unlink()
    with pytest.raises(StoreUnavailableError, match="bearer token of the transmitter can't be read"):
        await read()


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (
            'push.token_file = "',
            'push.token_file = "/x',
            r"transmitters.idp: push\.token_file: .* can't be read",
        ),
        (
            'poll.token_file = "',
            'poll.token_file = "/x',
            r"transmitters.idp: poll\.token_file: .* can't be read",
        ),
        ("https://idp.example/poll", "http://idp.example/poll", r"poll\.endpoint: the scheme is not https"),
        (
            "https://idp.example/keys",
            "https://u@idp.example/keys",
            r"transmitters.idp: keys: it has a user name",
        ),
    ],
)
async def test_start_and_check_refuse_an_unusable_transmitter(
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


def test_pushes_need_an_issuer_that_is_a_url(tmp_path: Path, text: str) -> None:
    loader = Loader(tmp_path)
    loader.transmitters = Transmitters(issuer="tokens")
    with pytest.raises(ConfigurationError, match="push: TOKEN_SERVICE_ISSUER must be a URL"):
        loader.load(text)
