"""Operations of Redis in traces."""

from __future__ import annotations

import pytest
from redis.exceptions import ResponseError

from tests.support.traced import Exported
from token_service.errors import StoreUnavailableError
from token_service.stores.redis.connection import limited


async def test_operation_is_a_child_of_its_call() -> None:
    exported = Exported()
    with exported.tracer.call("call", {}, None):
        async with limited("count_rate"):
            pass
        with pytest.raises(StoreUnavailableError):
            async with limited("publish_entries"):
                raise ResponseError("WRONGTYPE a-key")
    counted, published, call = exported.spans
    assert (counted.name, counted.kind.name, counted.parent.span_id) == (
        "count_rate",
        "CLIENT",
        call.context.span_id,
    )
    assert dict(counted.attributes) == {"db.system.name": "redis"}
    assert (published.name, published.attributes["error.type"]) == ("publish_entries", "STORE_UNAVAILABLE")
    assert "a-key" not in published.to_json()
