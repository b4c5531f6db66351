from __future__ import annotations

from pathlib import Path

import pytest

from token_service.errors import ConfigurationError
from token_service.stores.sql.engine.url import DatabaseUrl


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite+aiosqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:///x.db", "x.db"),
        ("sqlite:///a%20b.db", "a b.db"),
    ],
)
def test_sqlite(text, path):
    assert DatabaseUrl.parse(text).path == Path(path)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg"])
def test_postgresql(scheme):
    url = DatabaseUrl.parse(f"{scheme}://user:p%40ss@host:5432/db?application_name=x")
    assert url.path is None
    assert url.dsn == "postgresql://user:p%40ss@host:5432/db?application_name=x"


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        ("ssl=require", "sslmode=require"),
        ("a=b&ssl=true", "a=b&sslmode=require"),
        ("ssl=False&a=b", "sslmode=disable&a=b"),
        ("sslmode=verify-full", "sslmode=verify-full"),
        ("nossl=x", "nossl=x"),
    ],
)
def test_ssl_under_the_name_sqlalchemy_gives_it(given, taken):
    assert DatabaseUrl.parse(f"postgresql://h/db?{given}").dsn == f"postgresql://h/db?{taken}"


@pytest.mark.parametrize(
    "text",
    [
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite://relative.db",
        "sqlite:////x.db?mode=ro",
        "mysql://user:SECRET@host/db",
        "postgresql+psycopg://user:SECRET@host/db",
        "user:SECRET@host",
        "",
    ],
)
def test_refused_without_its_password(text):
    with pytest.raises(ConfigurationError) as caught:
        DatabaseUrl.parse(text)
    assert "SECRET" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:SECRET@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:SECRET@a:1,b:2/db?x=y", "postgresql://user:***@a:1,b:2/db?x=y"),
        ("postgres://user@host/db", "postgresql://user@host/db"),
        ("postgres://user:@host/db", "postgresql://user:***@host/db"),
        ("postgres://user:SEC:RET@host/db", "postgresql://user:***@host/db"),
        ("postgres://user:SEC@RET@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:SEC/RET@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:SEC?RET@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:SECRET@host/db?mail=a@b", "postgresql://user:***@b"),
        ("postgresql://host/db?mail=a@b", "postgresql://host/db?mail=a@b"),
        ("postgresql://host/db?password=SECRET&user=u", "postgresql://host/db?password=***&user=u"),
        ("postgresql://host/db?a=b&PASSWORD=SECRET", "postgresql://host/db?a=b&PASSWORD=***"),
        ("postgresql://host/db?sslpassword=SECRET", "postgresql://host/db?sslpassword=***"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_shows_no_password(text, shown):
    url = DatabaseUrl.parse(text)
    assert str(url) == url.redacted == shown
    for secret in ("SEC", "RET"):
        assert secret not in f"{url} {url!r}"
