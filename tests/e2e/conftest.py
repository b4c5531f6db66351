"""One node for the foreign clients of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.browser_node import BrowserNode
from tests.integration.oauth.node import OAuthNode
from tests.support.chromium import Chromium, Page


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
