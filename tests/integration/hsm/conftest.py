"""A fresh SoftHSM token for each test, opened in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.support.softhsm import SoftHsm, SoftHsmToken
from token_service.signers.hsm.pkcs11 import Pkcs11Keys
from token_service.tokens.secret import Secret


@pytest.fixture(scope="session")
def softhsm() -> SoftHsm:
    """SoftHSM, installed if missing. Without it these tests fail; they are never skipped."""
    return SoftHsm.find()


@pytest.fixture
def token(softhsm: SoftHsm, monkeypatch: pytest.MonkeyPatch) -> Iterator[SoftHsmToken]:
    with SoftHsmToken(softhsm=softhsm) as made:
        for name, value in made.environment.items():
            monkeypatch.setenv(name, value)
        yield made


@pytest.fixture
async def keys(token: SoftHsmToken) -> AsyncIterator[Pkcs11Keys]:
    async with Pkcs11Keys(
        token.module, token.label, Secret(token.pin.encode()), threads=4, timeout=30, restart_interval=0.05
    ) as opened:
        yield opened
