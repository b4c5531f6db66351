"""Token sources repeat the error that ended them to each caller."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Generator
from typing import Any

import pytest

from token_service.client._internal.issuance_state import Issuance
from token_service.client._internal.renewal_state import Reload, Renewal
from token_service.client._internal.token_store import Tokens
from token_service.errors import RefreshTokenReusedError, ServiceError


def issuance() -> Issuance:
    return Issuance(None, lambda: 0.0)


def renewal() -> Renewal:
    state = Renewal("web", "", (), (), None, lambda: 0.0, lambda: 0.0)
    state.load(Tokens(access_token="", access_expire_time=0.0, refresh_token="used"))
    return state


def fail(steps: Generator[Any, Any, Tokens]) -> ServiceError:
    """Answer each step of an attempt until it fails; return its error."""
    outcome: Any = None
    while True:
        try:
            step = steps.send(outcome)
        except ServiceError as error:
            return error
        outcome = None if isinstance(step, Reload) else RefreshTokenReusedError()


@pytest.mark.parametrize("make", [issuance, renewal])
def test_repeated_error_keeps_nothing_of_earlier_callers(make: Callable[[], Issuance | Renewal]) -> None:
    state = make()
    fail(state.steps())
    depths = {len(traceback.extract_tb(fail(state.steps()).__traceback__)) for _ in range(3)}
    assert len(depths) == 1
