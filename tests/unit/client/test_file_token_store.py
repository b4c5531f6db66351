"""`FileTokenStore`: one private, encrypted file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from token_service.client import ConfigurationError, FileTokenStore, Secret, Tokens

KEY = Secret(b"0123456789abcdef0123456789abcdef")
TOKENS = Tokens(
    access_token="access-1",
    access_expire_time=1_800_000_000.5,
    refresh_token="rt_secret",
    scopes=("read", "write"),
    receive_time=1_799_999_100.25,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


@pytest.fixture
def store(path: Path) -> FileTokenStore:
    return FileTokenStore(path, KEY)


def test_tokens_come_back_in_another_store_of_the_same_key(path: Path, store: FileTokenStore) -> None:
    assert store.load() is None
    store.save(TOKENS)
    assert FileTokenStore(path, lambda: KEY).load() == TOKENS


def test_file_is_private_and_has_no_readable_token(path: Path, store: FileTokenStore) -> None:
    old = os.umask(0)
    try:
        store.save(TOKENS)
    finally:
        os.umask(old)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.with_name("tokens.lock").stat().st_mode) == 0o600
    first = path.read_bytes()
    assert first.startswith(b"token-service tokens 1\n")
    assert not any(part in first for part in (b"rt_secret", b"access-1", b"read"))
    store.save(TOKENS)
    assert path.read_bytes() != first  # no nonce is used twice


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_file_that_others_may_open_is_refused(path: Path, store: FileTokenStore, mode: int) -> None:
    store.save(TOKENS)
    path.chmod(mode)
    with pytest.raises(PermissionError, match="chmod 600"):
        store.load()
    path.chmod(0o600)
    assert store.load() == TOKENS


def test_every_damaged_byte_is_noticed(path: Path, store: FileTokenStore) -> None:
    store.save(TOKENS)
    data = path.read_bytes()
    damaged = [data[:length] for length in range(len(data))]
    damaged += [data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :] for at in range(len(data))]
    damaged += [data + b"x", b"\0" * len(data)]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(ValueError, match="damaged, or was written with another key") as raised:
            store.load()
        assert str(path) in str(raised.value)


def test_another_key_opens_nothing(path: Path, store: FileTokenStore) -> None:
    store.save(TOKENS)
    with pytest.raises(ValueError, match="another key"):
        FileTokenStore(path, Secret(b"x" * 32)).load()


def test_key_may_be_a_private_file(path: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    store = FileTokenStore(path, key)
    with pytest.raises(FileNotFoundError):
        store.save(TOKENS)
    key.write_bytes(KEY.reveal())
    key.chmod(0o640)
    with pytest.raises(PermissionError, match="key"):
        store.save(TOKENS)
    assert not path.exists()
    key.chmod(0o600)
    store.save(TOKENS)
    assert FileTokenStore(path, KEY).load() == TOKENS
    key.write_bytes(b"short")
    with pytest.raises(ConfigurationError, match="32 bytes"):
        store.load()


def test_other_kinds_of_files_are_refused(path: Path, store: FileTokenStore) -> None:
    path.mkdir()
    with pytest.raises(OSError, match="tokens"):
        store.load()
    with pytest.raises(OSError, match="tokens"):
        store.save(TOKENS)
    path.rmdir()
    os.mkfifo(path, 0o600)
    with pytest.raises(OSError, match="not a regular file"):
        store.load()


def test_failed_save_keeps_the_stored_tokens(
    path: Path, store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.save(TOKENS)

    def fail(descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="no space"):
        store.save(Tokens(access_token="a", access_expire_time=1.0, refresh_token="r"))
    assert store.load() == TOKENS
    assert sorted(each.name for each in path.parent.iterdir()) == ["tokens", "tokens.lock"]


def test_left_files_of_a_killed_process_are_removed(path: Path, store: FileTokenStore) -> None:
    left = path.with_name(".tokens.abc.new")
    left.write_bytes(b"half")
    store.save(TOKENS)
    assert not left.exists()
    assert store.load() == TOKENS


def test_new_tokens_are_durable_before_they_replace_the_old_ones(
    path: Path, store: FileTokenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[str] = []
    sync, replace = os.fsync, Path.replace

    def fsync(descriptor: int) -> None:
        steps.append("directory" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        sync(descriptor)

    def rename(self: Path, target: Path) -> Path:
        steps.append("rename")
        return replace(self, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "replace", rename)
    store.save(TOKENS)
    assert steps == ["file", "rename", "directory"]


def test_key_and_tokens_are_in_no_representation(store: FileTokenStore) -> None:
    store.save(TOKENS)
    text = f"{store!r} {vars(store)!r} {store.load()!r}"
    assert not any(secret in text for secret in ("rt_secret", "access-1", "0123456789abcdef"))
