"""Requirements of methods at the gRPC interceptors."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import grpc
import pytest

from tests.support.fake_token_service import FakeTokenService
from tests.unit.client.guarded_server import KINDS, SHAPES, Metadata, Server, presented, serving
from token_service.client.auth_rules import AuthRules
from token_service.client.requirements import Requirements

CODE = grpc.StatusCode


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


RULES = AuthRules(
    scopes={
        "/shop.Orders/unary_unary": Requirements(scopes=["orders:write"], roles=["clerk", "boss"]),
        "/shop.Orders/unary_stream": Requirements(acr_values=["gold", "silver"], max_age=600),
        "/shop.Orders/stream_unary": Requirements(audience="archive", issuer="https://issuer.test"),
        "/shop.Orders/*": Requirements(groups=["staff"], entitlements=["export"]),
    }
)


async def test_requirements_of_a_method_are_checked(service: FakeTokenService, kind: str) -> None:
    def exercise(server: Server) -> None:
        now = int(time.time())

        def bearer(**claims: Any) -> Metadata:
            return presented(server.token(**claims), scheme="Bearer")

        write = {"scope": "orders:write", "roles": ["clerk"]}
        assert server.call(bearer(**write)) == b"user-1"
        info, error = server.refused(bearer(roles=["clerk"]))
        assert (error.code(), info.reason) == (CODE.PERMISSION_DENIED, "INSUFFICIENT_SCOPE")
        assert dict(info.metadata) == {"scope": "orders:write"}
        info, error = server.refused(bearer(scope="orders:write", roles=["guest"]))
        assert (error.code(), info.reason) == (CODE.PERMISSION_DENIED, "MISSING_ROLE")
        assert dict(info.metadata) == {}

        silver = bearer(auth_ctx={"acr": "silver", "auth_time": now - 60})
        assert server.call(silver, SHAPES[1]) == b"user-1"
        for context in (
            {"acr": "bronze", "auth_time": now - 60},
            {"acr": "gold", "auth_time": now - 700},
            {"acr": "gold"},
            ...,
        ):
            info, error = server.refused(bearer(auth_ctx=context), SHAPES[1])
            assert (error.code(), info.reason) == (CODE.UNAUTHENTICATED, "INSUFFICIENT_AUTHENTICATION")
            assert dict(info.metadata) == {"acr_values": "gold silver", "max_age": "600"}

        assert server.call(bearer(aud=["archive"]), SHAPES[2]) == b"user-1"
        assert server.refusal(bearer(), SHAPES[2]) == (CODE.UNAUTHENTICATED, "WRONG_AUDIENCE")

        assert server.call(bearer(groups=["staff"], entitlements=["export"]), SHAPES[3]) == b"user-1"
        lacks = CODE.PERMISSION_DENIED, "MISSING_ROLE"
        assert server.refusal(bearer(groups=["staff"]), SHAPES[3]) == lacks
        assert server.refusal(bearer(entitlements=["export"]), SHAPES[3]) == lacks

    async with serving(service, kind, RULES) as server:
        await asyncio.to_thread(exercise, server)


def test_audience_of_the_rules_holds_where_requirements_name_none() -> None:
    rules = AuthRules(
        audience="shop",
        scopes={"/a.B/C": Requirements(roles=["x"]), "/a.B/D": Requirements(audience="own"), "/a.B/E": ["s"]},
        public=["/a.B/F"],
    )
    assert rules.required("/a.B/C") == Requirements(roles=["x"], audience="shop")
    assert rules.required("/a.B/D") == Requirements(audience="own")
    assert rules.required("/a.B/E") == Requirements(scopes=["s"], audience="shop")
    assert rules.required("/a.B/F") is None
    assert rules.required("/a.B/G") == Requirements(audience="shop")
