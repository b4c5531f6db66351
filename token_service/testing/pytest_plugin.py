"""Fixtures for pytest. In `conftest.py`:

    pytest_plugins = ["token_service.testing.pytest_plugin"]

- `fake_issuer`: a `FakeIssuer`, one for each test, so that no revocation reaches another test
- `fake_issuer_of_session`: one for all tests that revoke nothing
- `token_service`: a `TokenServiceInProcess`, one for all tests (needs the extra `[server]`)
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from token_service.testing.issuer import FakeIssuer

if TYPE_CHECKING:
    from token_service.testing.service import TokenServiceInProcess


@pytest.fixture
def fake_issuer() -> Iterator[FakeIssuer]:
    """Return a fake issuer of this test."""
    with FakeIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def fake_issuer_of_session() -> Iterator[FakeIssuer]:
    """Return the fake issuer of all tests. A test that revokes takes `fake_issuer`."""
    with FakeIssuer() as issuer:
        yield issuer


@pytest.fixture(scope="session")
def token_service() -> Iterator[TokenServiceInProcess]:
    """Return the token service of all tests. Each test uses subjects and clients of its own."""
    from token_service.testing.service import TokenServiceInProcess

    with TokenServiceInProcess() as service:
        yield service
