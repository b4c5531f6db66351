"""Databases that the nodes of one module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.postgres import PostgresDatabases

pytest.register_assert_rewrite("tests.integration.upgrade_checks")


@pytest.fixture(scope="module")
def shared_postgres_url(postgres_server: PostgresDatabases) -> Iterator[str]:
    """URL of one fresh database for the whole module."""
    url = postgres_server.create_database()
    yield url
    postgres_server.drop_database(url)


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """URL of a fresh database that several nodes can share, once for each kind of database."""
    if request.param == "sqlite":
        directory: Path = tmp_path_factory.mktemp("sqlite")
        yield f"sqlite:///{directory / 'token_service.db'}"
    else:
        yield request.getfixturevalue("shared_postgres_url")
