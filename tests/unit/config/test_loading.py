from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.unit.config.loaded import env, load, refusal
from token_service.config import Profile, load_settings
from token_service.tokens.algorithms import Algorithm
from token_service.urls import DatabaseUrl


def test_nothing_set_gives_a_development_server_on_loopback() -> None:
    settings = load()
    assert settings.profile is Profile.DEVELOPMENT
    assert str(settings.grpc_address) == "127.0.0.1:50051"
    assert str(settings.http_address) == "127.0.0.1:8080"
    assert settings.database_url.path == Path(".token-service/token_service.db")
    assert settings.redis_url is None
    assert settings.key_encryption_key == ()
    assert settings.key_encryption_key_file == Path(".token-service/key-encryption.key")
    assert settings.workers == 1
    assert settings.signing_algorithm is Algorithm.RS256
    assert set(settings.sources.values()) == {"default"}
    assert settings.warnings == ()


def test_flag_overrides_environment_file_and_default_in_this_order(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text(
        'workers = 2\nlog_level = "debug"\nissuer = "http://file"\nallow_hs256 = true\nshutdown_grace = 2.5\n'
    )
    settings = load_settings(
        {"workers": "4", "config_file": None}, env(WORKERS=3, LOG_LEVEL="error", CONFIG_FILE=file)
    )
    assert settings.workers == 4
    assert settings.log_level == "error"
    assert settings.issuer == "http://file"
    assert settings.allow_hs256 is True
    assert settings.shutdown_grace == 2.5
    assert settings.sources["workers"] == "flag --workers"
    assert settings.sources["log_level"] == "environment"
    assert settings.sources["issuer"] == "file"
    assert settings.sources["profile"] == "default"
    assert load_settings({"config_file": str(file)}, {}).workers == 2


@pytest.mark.parametrize("name", ["a b", "100%20", "what?", "a#b", "$(x)", "quote'\"", "\u00e9", "a&b=c"])
def test_a_data_directory_may_have_any_name(tmp_path: Path, name: str) -> None:
    settings = load(DATA_DIR=tmp_path / name)
    url = DatabaseUrl.parse(settings.database_url.text)
    assert url.path == tmp_path / name / "token_service.db"
    assert settings.key_encryption_key_file == tmp_path / name / "key-encryption.key"


def test_an_empty_variable_is_not_set() -> None:
    assert load(WORKERS="", REDIS_URL=" ", KEY_ENCRYPTION_KEY="").workers == 1


def test_files_move_with_the_data_directory(tmp_path: Path) -> None:
    settings = load(DATA_DIR=tmp_path)
    assert settings.database_url.path == tmp_path / "token_service.db"
    assert settings.key_encryption_key_file == tmp_path / "key-encryption.key"


def test_all_invalid_settings_are_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_text('workrs = 2\nlog_format = "xml"\nissuer = ["a"]\n')
    message = refusal(WORKERS="x", PROFILE="y", CONFIG_FILE=file)
    assert message.startswith("5 settings are wrong:")
    assert "unknown key workrs; did you mean workers?" in message
    assert "TOKEN_SERVICE_LOG_FORMAT (file)" in message
    assert "issuer" in message
    assert "is a list" in message


def test_a_file_that_is_no_toml_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    file.write_bytes(b"workers: 2\n")
    assert "is not TOML" in refusal(CONFIG_FILE=file)
    file.write_bytes(b"\xff\xfe")
    assert "is not TOML" in refusal(CONFIG_FILE=file)
    file.write_text('config_file = "other.toml"')
    assert "unknown key config_file" in refusal(CONFIG_FILE=file)


def test_invalid_settings_files_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "service.toml"
    for content, says in (
        (b"x = " + b"[" * 3000, "is not TOML"),
        (b"workers = " + b"9" * 5000, "is not TOML"),
        (b"workers = 0x" + b"f" * 5000, "TOKEN_SERVICE_WORKERS (file)"),
        (b"#" * (1024 * 1024 + 1), "larger than 1048576 bytes"),
    ):
        file.write_bytes(content)
        assert says in refusal(CONFIG_FILE=file)
    file.unlink()
    os.mkfifo(file)
    for name in ("CONFIG_FILE", "POLICY_FILE", "TLS_CERT_FILE", "PKCS11_MODULE"):
        assert f"TOKEN_SERVICE_{name} (environment): '{file}' can't be used (not a regular file)" in refusal(
            **{name: file}
        )


def test_unknown_variable_is_warned_of_unless_kubernetes_sets_it() -> None:
    settings = load(
        DATABSE_URL="x",
        GRPC_PORT="50051",
        XYZZY="x",
        PORT="tcp://10.0.0.1:80",
        SERVICE_HOST="10.0.0.1",
        SERVICE_PORT="80",
        SERVICE_PORT_HTTP="80",
        PORT_80_TCP="tcp://10.0.0.1:80",
        PORT_80_TCP_ADDR="10.0.0.1",
        EDGE_SERVICE_HOST="10.0.0.1",
        EDGE_PORT="tcp://10.0.0.1:80",
        POLICY__INTERNAL__GRACE_PERIOD="5s",
        TEST_POSTGRES_URL="x",
        VENV="x",
        PYTHON="x",
    )
    assert settings.warnings == (
        "TOKEN_SERVICE_DATABSE_URL is not a setting and has no effect; did you mean TOKEN_SERVICE_DATABASE_URL?",
        "TOKEN_SERVICE_GRPC_PORT is not a setting and has no effect",
        "TOKEN_SERVICE_XYZZY is not a setting and has no effect",
    )
