from __future__ import annotations

import os
from dataclasses import fields
from pathlib import Path

import pytest

from token_service.config import SETTINGS, Address, Profile, Settings, UnixSocket, load_settings
from token_service.errors import ConfigurationError
from token_service.tokens.algorithms import Algorithm
from token_service.urls import DatabaseUrl

KEY = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


def env(**values: object) -> dict[str, str]:
    return {f"TOKEN_SERVICE_{name}": str(value) for name, value in values.items()}


def load(**values: object) -> Settings:
    return load_settings({}, env(**values))


def refusal(**values: object) -> str:
    with pytest.raises(ConfigurationError) as caught:
        load(**values)
    return caught.value.message


@pytest.fixture
def production(tmp_path: Path) -> dict[str, object]:
    for name in ("cert", "key", "ca", "kek"):
        (tmp_path / name).write_text("x")
    return {
        "PROFILE": "production",
        "GRPC_ADDRESS": "0.0.0.0:50051",
        "HTTP_ADDRESS": "0.0.0.0:8080",
        "DATABASE_URL": "postgresql://service:secret@db/tokens",
        "ISSUER": "https://tokens.example",
        "TLS_CERT_FILE": tmp_path / "cert",
        "TLS_KEY_FILE": tmp_path / "key",
        "TLS_CLIENT_CA_FILE": tmp_path / "ca",
        "KEY_ENCRYPTION_KEY_FILE": tmp_path / "kek",
        "AUDIT_KEY_FILE": tmp_path / "audit",
    }


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


def test_flags_beat_the_environment_and_that_the_file_and_that_the_default(tmp_path: Path) -> None:
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


def test_the_issuer_that_is_not_set_follows_the_http_address() -> None:
    assert load().issuer == "http://127.0.0.1:8080"
    settings = load(HTTP_ADDRESS="[::1]:0")
    assert settings.issuer == "http://[::1]:0"
    bound = settings.listening(settings.grpc_address, Address("::1", 1234))
    assert (bound.issuer, str(bound.http_address)) == ("http://[::1]:1234", "[::1]:1234")
    settings = load(HTTP_ADDRESS="localhost:0", ISSUER="http://issuer.example")
    bound = settings.listening(Address("127.0.0.1", 1), Address("localhost", 2))
    assert bound.issuer == "http://issuer.example"
    assert (str(bound.grpc_address), str(bound.http_address)) == ("127.0.0.1:1", "localhost:2")


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


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("GRPC_ADDRESS", "[::1]:0", Address("::1", 0)),
        ("GRPC_ADDRESS", "localhost:50052", Address("localhost", 50052)),
        ("GRPC_ADDRESS", "unix:/run/a b", UnixSocket(Path("/run/a b"))),
        ("GRPC_ADDRESS", "unix:///run/a", UnixSocket(Path("/run/a"))),
        ("GRPC_ADDRESS", "unix:a", UnixSocket(Path("a"))),
        ("PROFILE", "Development", Profile.DEVELOPMENT),
        ("SIGNING_ALGORITHM", "eddsa", Algorithm.EDDSA),
        ("ALLOW_HS256", "YES", True),
        ("ALLOW_HS256", "off", False),
        ("REPLICA_POLL_INTERVAL", "20ms", 0.02),
        ("REPLICA_POLL_INTERVAL", "1", 1.0),
        ("STREAM_MAX_AGE", "1.5m", 90.0),
        ("JANITOR_INTERVAL", "1d", 86400.0),
    ],
)
def test_values(name: str, text: str, value: object) -> None:
    assert getattr(load(**{name: text}), name.lower()) == value


@pytest.mark.parametrize(
    ("text", "dsn"),
    [
        ("postgres://u:p@h/d", "postgresql://u:p@h/d"),
        ("postgresql+asyncpg://u:p%40@h:1/d", "postgresql://u:p%40@h:1/d"),
        ("postgresql://h/d?ssl=require", "postgresql://h/d?sslmode=require"),
        ("postgresql:///d?host=/run/postgresql", "postgresql:///d?host=/run/postgresql"),
        ("postgresql://one:1,two:2/d", "postgresql://one:1,two:2/d"),
    ],
)
def test_a_database_url_is_read_for_the_driver_in_use(text: str, dsn: str) -> None:
    url = load(DATABASE_URL=text).database_url
    assert (url.dsn, url.path, url.text) == (dsn, None, text)


@pytest.mark.parametrize(
    ("text", "path"), [("sqlite:///a/b.db", "a/b.db"), ("sqlite:////var/b.db", "/var/b.db")]
)
def test_a_database_url_may_name_a_file(text: str, path: str) -> None:
    assert load(DATABASE_URL=text).database_url.path == Path(path)


@pytest.mark.parametrize(
    ("name", "value", "allowed"),
    [
        ("GRPC_ADDRESS", "50051", "host:port"),
        ("GRPC_ADDRESS", "127.0.0.1", "host:port"),
        ("GRPC_ADDRESS", "127.0.0.1:http", "host:port"),
        ("GRPC_ADDRESS", "127.0.0.1:65536", "host:port"),
        ("GRPC_ADDRESS", "::1:50051", "host:port"),
        ("GRPC_ADDRESS", "[::g]:50051", "host:port"),
        ("HTTP_ADDRESS", "http://127.0.0.1:80", "host:port"),
        ("HTTP_ADDRESS", "127.0.0.1:٣", "host:port"),
        ("DATABASE_URL", "mysql://h/d", "postgresql://"),
        ("DATABASE_URL", "sqlite://", "sqlite:///path/to/file"),
        ("DATABASE_URL", "sqlite:///:memory:", "sqlite:///path/to/file"),
        ("DATABASE_URL", "postgresql://h", "postgresql://"),
        ("DATABASE_URL", "sqlite:///a?b=c", "write ? in the name of a file as %3F"),
        ("DATABASE_URL", "sqlite:///a?", "write ? in the name of a file as %3F"),
        ("GRPC_ADDRESS", "unix:", "unix:/path"),
        ("GRPC_ADDRESS", "unix:a/", "unix:/path"),
        ("GRPC_ADDRESS", "unix://a/b", "followed by an absolute path"),
        ("GRPC_ADDRESS", "unix:/" + "a" * 107, "at most 107 bytes"),
        ("HTTP_ADDRESS", "unix:/a", "host:port"),
        ("PROFILE", "prodution", "did you mean production?"),
        ("LOG_LEVEL", "warn", "did you mean warning?"),
        ("SIGNING_ALGORITHM", "ES265", "did you mean ES256?"),
        ("REDIS_URL", "localhost:6379", "redis://"),
        ("REDIS_URL", "redis://", "redis://"),
        ("ISSUER", "tokens.example", "https://"),
        ("ISSUER", "https://tokens.example/?a=b", "https://"),
        ("ISSUER", "https://tokens.example/#", "https://"),
        ("PROFILE", "staging", "`development` or `production`"),
        ("WORKERS", "many", "from 1 to 64"),
        ("WORKERS", "0", "from 1 to 64"),
        ("WORKERS", "1.5", "from 1 to 64"),
        ("SIGNING_ALGORITHM", "none", "`RS256`, `ES256` or `EdDSA`"),
        ("ALLOW_HS256", "maybe", "true or false"),
        ("POLICY_FILE", "/does/not/exist", "a readable file"),
        ("POLICY_FILE", "/", "a readable file"),
        ("DATA_DIR", "~no-such-user-here/x", "a directory"),
        ("CONFIG_FILE", "/does/not/exist", "TOML"),
        ("LOG_FORMAT", "xml", "`text` or `json`"),
        ("SHUTDOWN_GRACE", "soon", "from 0s to 10m"),
        ("SHUTDOWN_GRACE", "1w", "from 0s to 10m"),
        ("SHUTDOWN_GRACE", "-1s", "from 0s to 10m"),
        ("SHUTDOWN_GRACE", "nan", "from 0s to 10m"),
        ("SHUTDOWN_GRACE", "1h", "from 0s to 10m"),
        ("SHUTDOWN_GRACE", ".", "from 0s to 10m"),
    ],
)
def test_a_bad_value_is_refused_with_its_name_itself_and_what_is_allowed(
    name: str, value: str, allowed: str
) -> None:
    message = refusal(**{name: value})
    assert f"TOKEN_SERVICE_{name} (environment)" in message
    assert value in message
    assert allowed in message


def test_everything_wrong_is_reported_at_once(tmp_path: Path) -> None:
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


@pytest.mark.parametrize("text", ["hunter2", KEY + "x", f"{KEY},hunter2", KEY[:-8]])
def test_a_bad_secret_is_refused_without_showing_it(text: str) -> None:
    message = refusal(KEY_ENCRYPTION_KEY=text)
    assert "TOKEN_SERVICE_KEY_ENCRYPTION_KEY (environment): '***'" in message
    assert "hunter2" not in message
    assert text not in message


@pytest.mark.parametrize(
    "url",
    [
        "mysql://user:hunter2@host/db",
        "postgresql://user:hunter2@host",
        "postgresql://user:hunter2/@host:x/db",
        "postgresql://user:a@hunter2@host:x/db",
        "postgresql://host:x/db?password=hunter2&user=me",
        "user:hunter2@host",
        "user:x@host?password=hunter2",
        "redis://:hunter2/@host",
        "redis://:hunter2",
        "redis://user:hunter2",
        "redis://:hunter2/0",
        "postgresql://user:hunter2",
        "postgresql://user:hunter2/db",
        "postgresql://user:p#hunter2",
        "postgresql://user:p/hunter2",
        "postgresql://user:p?hunter2",
        "postgresql://:5432hunter2/db",
        "postgresql://host:5432?hunter2",
        "postgresql://host:5432#hunter2",
        "postgresql://host:x/db?%70assword=hunter2",
        "postgresql://host:x/db?user=me;password=hunter2",
        "host=db password=hunter2",
        "Server=db;Password=hunter2",
        "postgresql:/user:hunter2/db",
        "postgresql:user:hunter2",
        "user:hunter2",
        ":hunter2",
    ],
)
def test_no_password_is_shown_in_a_refused_url(url: str) -> None:
    message = refusal(DATABASE_URL=url, REDIS_URL=url.replace("redis", "redos"))
    assert "hunter2" not in message
    assert "***" in message


@pytest.mark.parametrize("name", ["ISSUER", "GRPC_ADDRESS", "HTTP_ADDRESS", "POLICY_FILE", "LOG_FORMAT"])
def test_no_password_is_shown_in_a_url_in_the_wrong_place(name: str) -> None:
    for url in ("https://user:hunter2/", "redis://:hunter2@host", "postgresql://user:hunter2@host/db"):
        assert "hunter2" not in refusal(**{name: url})


def test_workers_can_not_share_a_unix_socket() -> None:
    assert "workers can't share" in refusal(GRPC_ADDRESS="unix:/run/a", WORKERS="2")
    assert load(GRPC_ADDRESS="unix:/run/a").grpc_address == UnixSocket(Path("/run/a"))


def test_a_settings_file_may_be_anything(tmp_path: Path) -> None:
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


def test_no_secret_is_in_the_repr(production: dict[str, object]) -> None:
    del production["KEY_ENCRYPTION_KEY_FILE"]
    production["REDIS_URL"] = "redis://:hunter2@cache"
    settings = load(**production, KEY_ENCRYPTION_KEY=f"{KEY},{KEY}")
    assert len(settings.key_encryption_key) == 2
    assert settings.key_encryption_key[0].reveal() == b"0123456789abcdef" * 2
    for text in (repr(settings), str(settings), str(settings.database_url), repr(settings.redis_url)):
        assert "secret@" not in text
        assert "hunter2" not in text
        assert KEY not in text
        assert "0123456789abcdef" not in text
    assert str(settings.database_url) == "postgresql://service:***@db/tokens"
    odd = load(DATABASE_URL="postgresql://db/tokens?user=me;password=hunter2&application_name=token-service")
    assert str(odd.database_url) == "postgresql://db/tokens?user=***&application_name=token-service"


def test_a_complete_production_configuration_is_accepted(production: dict[str, object]) -> None:
    settings = load(**production)
    assert settings.is_production
    assert not settings.uses_sqlite


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (
            {"TLS_CERT_FILE": "", "TLS_KEY_FILE": "", "TLS_CLIENT_CA_FILE": ""},
            "set TOKEN_SERVICE_TLS_CERT_FILE",
        ),
        ({"TLS_CLIENT_CA_FILE": ""}, "set TOKEN_SERVICE_TLS_CLIENT_CA_FILE"),
        ({"KEY_ENCRYPTION_KEY_FILE": ""}, "set TOKEN_SERVICE_KEY_ENCRYPTION_KEY_FILE"),
        ({"AUDIT_KEY_FILE": ""}, "openssl rand -base64 32 > audit.key"),
        ({"DATABASE_URL": ""}, "set TOKEN_SERVICE_DATABASE_URL"),
        ({"DATABASE_URL": "sqlite:////var/t.db", "REDIS_URL": "redis://cache"}, "which nodes can't share"),
        ({"ISSUER": ""}, "set TOKEN_SERVICE_ISSUER"),
        ({"ISSUER": "http://tokens.example"}, "an https URL"),
        ({"SIGNING_ALGORITHM": "HS256"}, "TOKEN_SERVICE_ALLOW_HS256=true"),
    ],
)
def test_production_refuses_what_is_unsafe_and_says_what_to_set(
    production: dict[str, object], change: dict[str, str], says: str
) -> None:
    assert says in refusal(**{**production, **change})


@pytest.mark.parametrize(
    "address", ["0.0.0.0:50051", "[::]:50051", "192.0.2.1:50051", "tokens.example:50051"]
)
def test_development_is_refused_off_loopback(address: str) -> None:
    for name in ("GRPC_ADDRESS", "HTTP_ADDRESS"):
        message = refusal(**{name: address})
        assert f"TOKEN_SERVICE_{name} is {address}" in message
        assert "TOKEN_SERVICE_PROFILE=production" in message
    assert load(GRPC_ADDRESS="localhost:1", HTTP_ADDRESS="[::1]:1")


def test_contradictions_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.touch()
    assert "both set" in refusal(KEY_ENCRYPTION_KEY=KEY, KEY_ENCRYPTION_KEY_FILE=file)
    assert "both or neither" in refusal(TLS_CERT_FILE=file)
    assert "without a certificate" in refusal(TLS_CLIENT_CA_FILE=file)
    assert "two ports" in refusal(GRPC_ADDRESS="127.0.0.1:1", HTTP_ADDRESS="127.0.0.1:1")
    assert load(GRPC_ADDRESS="127.0.0.1:0", HTTP_ADDRESS="127.0.0.1:0")
    assert "ALLOW_HS256" in refusal(SIGNING_ALGORITHM="HS256")
    assert load(SIGNING_ALGORITHM="HS256", ALLOW_HS256="true").signing_algorithm is Algorithm.HS256


def test_an_unknown_variable_is_warned_of_but_not_what_kubernetes_sets() -> None:
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


def test_the_table_is_complete_and_its_defaults_are_valid() -> None:
    names = [setting.name for setting in SETTINGS]
    internal = {"reuse_port", "sources", "warnings"}
    assert names == [field.name for field in fields(Settings) if field.name not in internal]
    for setting in SETTINGS:
        assert setting.help.endswith(".")
        assert setting.allowed
        assert setting.default_help
        if setting.default is not None:
            setting.parse(setting.default)
