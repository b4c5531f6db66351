"""One node for the foreign clients of a module."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.e2e.oauth import OAuthNode


@pytest.fixture(scope="module")
def service() -> Iterator[OAuthNode]:
    """A node with a fresh database and the default settings of development."""
    with OAuthNode() as node:
        yield node
