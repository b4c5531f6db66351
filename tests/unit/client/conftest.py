from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.both_validators import KINDS
from tests.support.fake_token_service import FakeTokenService
from tests.support.token_mint import AUDIENCE
from token_service.client.config import Backoff, Freshness, ServiceIssuer, ValidatorConfig


@pytest.fixture
def service() -> Iterator[FakeTokenService]:
    with FakeTokenService() as fake:
        yield fake


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def config_for(
    service: FakeTokenService,
    *,
    bound: float = 9.0,
    when_stale: Any = None,
    accept_for: float = 300.0,
    **changes: Any,
) -> ValidatorConfig:
    """Return a configuration with short intervals, and with a bound long enough for a busy machine."""
    of_issuer = {
        name: changes.pop(name)
        for name in (
            "stall_timeout",
            "key_refresh_interval",
            "remote_timeout",
            "max_remote_calls",
            "warm_start",
            "subscriber_id",
        )
        if name in changes
    }
    stale = {} if when_stale is None else {"when_stale": when_stale}
    of_issuer.setdefault("remote_timeout", 30.0)
    issuer = ServiceIssuer(
        issuer=service.issuer,
        target=service.address,
        freshness=Freshness(bound=bound, probe_timeout=bound, accept_for=accept_for, **stale),
        reconnect=Backoff(initial=0.02, longest=0.2),
        **of_issuer,
    )
    return ValidatorConfig(issuers=[issuer], audience=AUDIENCE, **changes)
