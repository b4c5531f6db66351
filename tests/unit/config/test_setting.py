from __future__ import annotations

import pytest

from tests.unit.config.loaded import refusal


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
