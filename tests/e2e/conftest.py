"""One node for the foreign clients of a module."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.browser_node import BrowserNode
from tests.integration.oauth.node import OAuthNode
from tests.support.chromium import Chromium, Page

pytest.register_assert_rewrite(
    "tests.e2e.gateway_contract", "tests.e2e.gateway_hostile_clients", "tests.e2e.gateway_load"
)


_DIRECTORY = Path(__file__).parent
_TIMEOUT = 900.0
"""Seconds for one test. Longer than a download and the start of its programs, whose own errors say what they waited for."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test here that has no limit of its own more time than tests without foreign programs have."""
    for item in items:
        if _DIRECTORY in item.path.parents and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(_TIMEOUT))


@pytest.fixture(scope="module")
def service() -> Iterator[OAuthNode]:
    """A node with a fresh database and the default settings of development."""
    with OAuthNode() as node:
        yield node


@pytest.fixture(scope="module")
def node() -> Iterator[BrowserNode]:
    """A node for browsers with a login service, with a fresh database."""
    with BrowserNode() as made:
        yield made


@pytest.fixture(scope="module")
def chromium() -> Iterator[Chromium]:
    """A browser for the pages of a module."""
    with Chromium() as made:
        yield made


@pytest.fixture
def page(chromium: Chromium) -> Iterator[Page]:
    """A page with cookies of its own."""
    made = chromium.page()
    yield made
    made.close()
