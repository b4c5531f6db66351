"""An upgrade under load, in the order of docs/upgrading.md, from the recorded database of the last release."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.integration.calls import refused
from tests.integration.upgrade_checks import check_everything, check_side_by_side
from tests.integration.upgrading import Load, Site
from token_service.v1 import client_service_pb2, client_service_pb2_grpc


@pytest.mark.slow
async def test_nodes_are_replaced_under_load_without_a_failed_call_or_a_lost_revocation(
    postgres_url: str, redis_url: str, tmp_path: Path
) -> None:
    async with Site(tmp_path, postgres_url, redis_url) as site, Load(site) as load:
        clients: Any = client_service_pb2_grpc.ClientServiceStub(load.direct[0].channel)
        failure = await refused(clients.ListClients(client_service_pb2.ListClientsRequest()))
        assert failure.code.name == "UNIMPLEMENTED"  # it is the release
        await load.go_on()
        await site.migrate()
        await load.go_on()
        first, second = site.nodes
        await site.replace(first, site.new)
        await load.go_on()
        await check_side_by_side(load)
        await site.replace(second, site.new)
        await load.go_on()
        await load.stop()
        await clients.ListClients(client_service_pb2.ListClientsRequest(), timeout=60)
        await check_everything(load)
