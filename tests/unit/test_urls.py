from __future__ import annotations

import os
from pathlib import Path

import pytest

from token_service.urls import DatabaseUrl, UnusableValueError


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("sqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite+aiosqlite:////var/lib/x.db", "/var/lib/x.db"),
        ("sqlite:///x.db", "x.db"),
        ("sqlite:///a%20b.db", "a b.db"),
    ],
)
def test_sqlite_url_is_parsed(text, path):
    assert DatabaseUrl.parse(text).path == Path(path)


@pytest.mark.parametrize("scheme", ["postgresql", "postgres", "postgresql+asyncpg"])
def test_postgresql_url_is_parsed(scheme):
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
def test_ssl_parameter_has_the_name_of_sqlalchemy(given, taken):
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
        "postgres+asyncpg://user:SECRET@host/db",
        "user:SECRET@host",
        "sqlite:///x#SECRET",
        "postgresql://user:SECRET@host",
        "postgresql://user:SECRET@host/",
        "postgresql:///db",
        "postgresql://user:SEC/RET@host/db",
        "postgresql://user:SEC?RET@host/db",
        "postgresql://user:SEC#RET@host/db",
        "postgresql://host/db#SECRET",
        "postgresql://user:SECRET@host:x/db",
        "postgresql://user:SECRET@host:65536/db",
        "postgresql://user:SECRET@one:1,two:x/db",
        "postgresql://user:SECRET@[::1/db",
        "postgresql://host/db?password=SECRET&password=SECRET",
        "postgresql://host/db?ssl=require&sslmode=require",
        "",
    ],
)
def test_refusal_shows_no_password(text):
    with pytest.raises(UnusableValueError) as caught:
        DatabaseUrl.parse(text)
    for secret in ("SEC", "RET"):
        assert secret not in str(caught.value)


@pytest.mark.parametrize(
    "rest",
    [
        "one:5432,two:5433/db",
        "one,two/db",
        "user@[::1]:5432/db",
        "user:p%40ss@[::1],two:1/db?target_session_attrs=any",
        "/db?host=/run/postgresql",
        "host/db?options=-c+work_mem%3D1MB",
    ],
)
def test_hosts_and_parameters_reach_the_driver_as_written(rest):
    assert DatabaseUrl.parse(f"postgresql://{rest}").dsn == f"postgresql://{rest}"


def test_the_path_of_a_file_may_be_any_bytes(tmp_path):
    path = tmp_path / os.fsdecode(b"a b%20?#\xff.db")
    url = DatabaseUrl.of_file(path)
    assert url.path == path
    assert DatabaseUrl.parse(url.text) == url


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("postgresql://user:SECRET@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:SECRET@a:1,b:2/db?x=y", "postgresql://user:***@a:1,b:2/db?x=y"),
        ("postgres://user@host/db", "postgresql://user@host/db"),
        ("postgres://user:@host/db", "postgresql://user:***@host/db"),
        ("postgres://user:SEC:RET@host/db", "postgresql://user:***@host/db"),
        ("postgres://user:SEC@RET@host/db", "postgresql://user:***@host/db"),
        ("postgresql://user:SECRET@host/db?mail=a@b", "postgresql://user:***@b"),
        ("postgresql://host/db?mail=a@b", "postgresql://host/db?mail=a@b"),
        ("postgresql://host/db?password=SECRET&user=u", "postgresql://host/db?password=***&user=u"),
        ("postgresql://host/db?a=b&PASSWORD=SECRET", "postgresql://host/db?a=b&PASSWORD=***"),
        ("postgresql://host/db?sslpassword=SECRET", "postgresql://host/db?sslpassword=***"),
        ("sqlite:///x.db", "sqlite:///x.db"),
    ],
)
def test_repr_shows_no_password(text, shown):
    url = DatabaseUrl.parse(text)
    assert str(url) == url.redacted == shown
    for secret in ("SEC", "RET"):
        assert secret not in f"{url} {url!r}"
