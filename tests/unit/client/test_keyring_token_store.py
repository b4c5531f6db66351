"""`KeyringTokenStore` over a backend of the real keyring package."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import keyring
import pytest
from keyring.backend import KeyringBackend
from keyring.backends.fail import Keyring as NoKeyring
from keyring.errors import KeyringLocked, PasswordDeleteError

from tests.support.both_sources import AnySource, tokens_of
from tests.support.fake_token_service import FakeTokenService
from token_service.client import KeyringTokenStore, Tokens
from token_service.client._internal.file_lock import FileLock

TOKENS = Tokens(access_token="access-1", access_expire_time=1_800_000_000.0, refresh_token="rt_1")


class DictionaryKeyring(KeyringBackend):
    """A credential store in memory."""

    priority = 1

    def __init__(self) -> None:
        super().__init__()
        self.entries: dict[tuple[str, str], str] = {}
        self.is_locked = False

    def get_password(self, service: str, username: str) -> str | None:
        self._require_open()
        return self.entries.get((service, username))

    def set_password(self, service: str, username: str, password: str) -> None:
        self._require_open()
        self.entries[service, username] = password

    def delete_password(self, service: str, username: str) -> None:
        if self.entries.pop((service, username), None) is None:
            raise PasswordDeleteError("no such entry")

    def _require_open(self) -> None:
        if self.is_locked:
            raise KeyringLocked("the collection is locked")


@pytest.fixture
def backend() -> Iterator[DictionaryKeyring]:
    """Make a credential store that keyring itself chooses."""
    before = keyring.get_keyring()
    backend = DictionaryKeyring()
    keyring.set_keyring(backend)
    yield backend
    keyring.set_keyring(before)


def test_tokens_come_back_in_another_store_of_the_same_entry(backend: DictionaryKeyring) -> None:
    store = KeyringTokenStore("shop", "alice")
    assert store.load() is None
    store.save(TOKENS)
    assert KeyringTokenStore("shop", "alice", backend=backend).load() == TOKENS
    assert KeyringTokenStore("shop", "bob").load() is None
    keyring.delete_password("shop", "alice")
    assert store.load() is None


def test_locked_or_missing_credential_store_is_an_os_error(backend: DictionaryKeyring) -> None:
    backend.is_locked = True
    for store in (
        KeyringTokenStore("shop", "alice"),
        KeyringTokenStore("shop", "alice", backend=NoKeyring()),
    ):
        with pytest.raises(OSError, match="can't be read"):
            store.load()
        with pytest.raises(OSError, match="can't be written"):
            store.save(TOKENS)


@pytest.mark.parametrize("text", ["", "nonsense", "[]", '{"access_token":"rt_1"}', '{"access_token":1}'])
def test_damaged_entry_is_a_clear_error_without_its_content(backend: DictionaryKeyring, text: str) -> None:
    backend.entries["shop", "alice"] = text
    with pytest.raises(ValueError, match="shop/alice") as raised:
        KeyringTokenStore("shop", "alice").load()
    assert "rt_1" not in str(raised.value)


def test_processes_take_turns_with_a_lock_path(backend: DictionaryKeyring, tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with KeyringTokenStore("shop", "alice", lock_path=path).lock(60):
        with pytest.raises(TimeoutError), FileLock(path).hold(0):
            pass
        with KeyringTokenStore("shop", "alice").lock(0):
            pass  # without a lock path there is nothing to wait for


async def test_source_renews_tokens_in_the_credential_store(
    backend: DictionaryKeyring, service: FakeTokenService, kind: str
) -> None:
    store = KeyringTokenStore("shop", "alice")
    store.save(tokens_of(service, life=-1))
    async with AnySource(kind, service, store) as source:
        token = await source.token()
    saved = store.load()
    assert saved is not None
    assert (saved.access_token, saved.refresh_token) == (token, "refresh-1")


MISSING = """
import sys
sys.modules["keyring"] = None
try:
    from token_service.client import KeyringTokenStore
except ModuleNotFoundError as error:
    print(error, error.__cause__, error.__suppress_context__)
from token_service.client import FileTokenStore
"""


def test_store_without_keyring_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MISSING], capture_output=True, text=True, check=True, timeout=60
    )
    said = "KeyringTokenStore needs keyring; install it: pip install 'grpc-token-service[keyring]'"
    assert done.stdout == f"{said} None True\n"
