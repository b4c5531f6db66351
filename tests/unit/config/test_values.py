from __future__ import annotations

from ipaddress import ip_network
from pathlib import Path

import pytest

from tests.unit.config.loaded import KEY, load, refusal
from token_service.config import Address, Profile, UnixSocket
from token_service.tokens.algorithms import Algorithm


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
        ("TRUSTED_PROXIES", "", ()),
        ("TRUSTED_PROXIES", "10.0.0.1, fd00::/8", (ip_network("10.0.0.1/32"), ip_network("fd00::/8"))),
        ("REPLICA_POLL_INTERVAL", "20ms", 0.02),
        ("REPLICA_POLL_INTERVAL", "1", 1.0),
        ("STREAM_MAX_AGE", "1.5m", 90.0),
        ("JANITOR_INTERVAL", "1d", 86400.0),
    ],
)
def test_values_are_parsed_by_their_type(name: str, text: str, value: object) -> None:
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
        ("TRUSTED_PROXIES", "proxy.internal", "addresses and networks"),
        ("TRUSTED_PROXIES", "10.0.0.1/8", "addresses and networks"),
        ("TRUSTED_PROXIES", "10.0.0.1,::/0", "every client could forge headers"),
        ("TRUSTED_PROXIES", ",".join(["10.0.0.1"] * 33), "not 1 to 32 networks"),
        ("PROXY_HEADER", "x-real-ip", "`forwarded`"),
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
        ("GRPC_ADDRESS", "unix://a/b", "the path after unix:// must be absolute"),
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
        ("SIGNING_ALGORITHM", "none", "`RS256`, `PS256`, `ES256` or `EdDSA`"),
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
def test_bad_value_is_refused_with_name_value_and_allowed_values(name: str, value: str, allowed: str) -> None:
    message = refusal(**{name: value})
    assert f"TOKEN_SERVICE_{name} (environment)" in message
    assert value in message
    assert allowed in message


@pytest.mark.parametrize("text", ["hunter2", KEY + "x", f"{KEY},hunter2", KEY[:-8]])
def test_a_bad_secret_is_refused_without_showing_it(text: str) -> None:
    message = refusal(KEY_ENCRYPTION_KEY=text)
    assert "TOKEN_SERVICE_KEY_ENCRYPTION_KEY (environment): '***'" in message
    assert "hunter2" not in message
    assert text not in message
