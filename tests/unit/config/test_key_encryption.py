from __future__ import annotations

import multiprocessing
import os
import stat
from base64 import b64encode
from pathlib import Path

import pytest

from token_service.config import (
    Settings,
    load_audit_keys,
    load_key_encryption_keys,
    load_pairwise_key,
    load_settings,
    prepare_data_dir,
)
from token_service.errors import ConfigurationError

ONE = b"1" * 32
TWO = b"2" * 32


def development(data_dir: Path, **values: str) -> Settings:
    return load_settings({"data_dir": str(data_dir)}, {f"TOKEN_SERVICE_{k}": v for k, v in values.items()})


def production(tmp_path: Path, key_file: Path) -> Settings:
    other = tmp_path / "other"
    other.touch()
    names = ("TLS_CERT_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE")
    environ = {f"TOKEN_SERVICE_{name}": str(other) for name in names}
    environ |= {
        "TOKEN_SERVICE_PROFILE": "production",
        "TOKEN_SERVICE_HTTP_TLS": "true",
        "TOKEN_SERVICE_DATABASE_URL": "postgresql://db/tokens",
        "TOKEN_SERVICE_ISSUER": "https://tokens.example",
        "TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE": str(key_file),
        "TOKEN_SERVICE_AUDIT_KEY_FILE": str(key_file),
    }
    return load_settings({}, environ)


def reveal_audit(settings: Settings) -> list[bytes]:
    return [key.reveal() for key in load_audit_keys(settings)]


def reveal(settings: Settings) -> list[bytes]:
    return [key.reveal() for key in load_key_encryption_keys(settings)]


def key_file(path: Path, text: bytes, mode: int = 0o600) -> Path:
    path.write_bytes(text)
    path.chmod(mode)
    return path


def test_development_makes_a_key_once_that_only_its_owner_can_read(tmp_path: Path) -> None:
    settings = development(tmp_path / "a" / "b")
    keys = reveal(settings)
    assert len(keys) == 1
    assert len(keys[0]) == 32
    assert reveal(settings) == keys
    assert stat.S_IMODE(settings.key_encryption_key_file.stat().st_mode) == 0o600
    assert stat.S_IMODE((tmp_path / "a" / "b").stat().st_mode) == 0o700
    assert sorted(p.name for p in (tmp_path / "a" / "b").iterdir()) == [".gitignore", "key-encryption.key"]
    assert (tmp_path / "a" / "b" / ".gitignore").read_text() == "*\n"


def _load_in_process(path: str, barrier: object, found: object) -> None:
    settings = development(Path(path))
    barrier.wait(20)  # type: ignore[attr-defined]
    found.put(reveal(settings)[0])  # type: ignore[attr-defined]


def test_processes_that_start_together_get_the_same_key(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    barrier, found = context.Barrier(4), context.Queue()
    arguments = (str(tmp_path / "data"), barrier, found)
    processes = [context.Process(target=_load_in_process, args=arguments) for _ in range(4)]
    for process in processes:
        process.start()
    keys = {found.get(timeout=30) for _ in processes}
    for process in processes:
        process.join(30)
        process.close()
    found.close()
    assert len(keys) == 1


def test_key_in_the_environment_creates_no_file(tmp_path: Path) -> None:
    text = b64encode(ONE).decode() + " " + b64encode(TWO).decode().rstrip("=")
    settings = development(tmp_path / "data", KEY_ENCRYPTION_KEY=text)
    assert reveal(settings) == [ONE, TWO]
    assert not (tmp_path / "data").exists()


def test_development_makes_an_audit_key_of_its_own(tmp_path: Path) -> None:
    settings = development(tmp_path / "data")
    keys = reveal_audit(settings)
    assert reveal_audit(settings) == keys != reveal(settings)
    assert stat.S_IMODE((tmp_path / "data" / "audit.key").stat().st_mode) == 0o600


def test_audit_keys_of_production_come_from_their_file(tmp_path: Path) -> None:
    path = key_file(tmp_path / "keys", b64encode(ONE) + b"\n" + b64encode(TWO) + b"\n")
    assert reveal_audit(production(tmp_path, path)) == [ONE, TWO]
    path.unlink()
    with pytest.raises(ConfigurationError, match=r"TOKEN_SERVICE_AUDIT_KEY_FILE: .*openssl rand -base64 32"):
        reveal_audit(production(tmp_path, path))


def test_a_file_may_hold_several_keys(tmp_path: Path) -> None:
    path = key_file(tmp_path / "keys", b64encode(ONE) + b"\n" + b64encode(TWO) + b"\n")
    assert reveal(production(tmp_path, path)) == [ONE, TWO]


@pytest.mark.parametrize(
    "content", [b"", b"hunter2", b64encode(b"short"), b"\xff" * 40, b64encode(ONE) * 3000]
)
def test_file_with_other_content_is_refused_without_showing_it(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ConfigurationError) as caught:
        reveal(production(tmp_path, key_file(tmp_path / "keys", content)))
    assert "TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE" in caught.value.message
    assert "hunter2" not in caught.value.message


def test_a_missing_file_is_refused_in_production(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="openssl rand -base64 32"):
        reveal(production(tmp_path, tmp_path / "missing"))
    assert not (tmp_path / "missing").exists()


def test_a_file_others_can_read_is_refused_in_production_and_warned_of_in_development(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = key_file(tmp_path / "keys", b64encode(ONE), 0o644)
    with pytest.raises(ConfigurationError, match="can be read by users other than its owner; run `chmod 600"):
        reveal(production(tmp_path, path))
    assert reveal(development(tmp_path, KEY_ENCRYPTION_KEY_FILE=str(path))) == [ONE]
    assert "can be read by users other than its owner" in caplog.text
    path.chmod(0o620)
    with pytest.raises(ConfigurationError, match="can be written by users other than its owner"):
        reveal(production(tmp_path, path))


def test_the_group_may_read_a_file_of_root_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = key_file(tmp_path / "keys", b64encode(ONE), 0o640)
    settings = production(tmp_path, path)
    for owner, accepted in ((0, True), (1000, False)):

        def fstat(descriptor: int, owner: int = owner) -> os.stat_result:
            found = list(os.stat(descriptor))
            found[stat.ST_UID] = owner
            return os.stat_result(found)

        with monkeypatch.context() as patch:
            patch.setattr("token_service.config.key_encryption.os.fstat", fstat)
            if accepted:
                assert reveal(settings) == [ONE]
            else:
                with pytest.raises(ConfigurationError):
                    reveal(settings)


def test_a_data_directory_that_can_not_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(ConfigurationError, match="TOKEN_SERVICE_DATA_DIR"):
            prepare_data_dir(path)


def test_pairwise_key_is_one_key_of_the_environment_or_of_a_file_and_never_made(tmp_path: Path) -> None:
    data = tmp_path / "data"
    assert load_pairwise_key(development(data)) is None
    assert not data.exists()
    given = load_pairwise_key(development(data, PAIRWISE_KEY=b64encode(ONE).decode()))
    assert given is not None
    assert given.reveal() == ONE
    path = key_file(tmp_path / "pairwise.key", b64encode(TWO) + b"\n")
    of_file = load_pairwise_key(development(data, PAIRWISE_KEY_FILE=str(path)))
    assert of_file is not None
    assert of_file.reveal() == TWO


def test_several_pairwise_keys_are_refused(tmp_path: Path) -> None:
    both = b64encode(ONE) + b"\n" + b64encode(TWO)
    path = key_file(tmp_path / "pairwise.key", both)
    with pytest.raises(ConfigurationError, match="more than one key"):
        load_pairwise_key(development(tmp_path, PAIRWISE_KEY_FILE=str(path)))
    with pytest.raises(ConfigurationError, match="more than one key"):
        development(tmp_path, PAIRWISE_KEY=both.decode().replace("\n", ","))
