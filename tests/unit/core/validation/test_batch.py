"""The limit on tokens in a batch."""

from __future__ import annotations

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.validation.introspector import TokenQuery
from token_service.errors import InvalidRequestError

SYSTEM = Caller.system()


@pytest.fixture
async def node() -> Node:
    return await Node(ManualClock(), max_staleness=1e12).start()


@pytest.mark.parametrize("count", [0, 257])
async def test_a_batch_beyond_the_limit_is_refused_before_it_is_read(node: Node, count: int) -> None:
    def unread() -> TokenQuery:
        raise AssertionError("read")

    queries = (unread() for _ in range(count))
    with pytest.raises(InvalidRequestError) as error:
        async for _ in node.introspector.validate_batch(SYSTEM, count, queries):
            pass
    assert error.value.violations[0].field == "requests"
