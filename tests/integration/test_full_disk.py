"""A full disk fails writes but not reads: the node reports it, is not ready, and recovers by itself."""

from __future__ import annotations

from pathlib import Path

import grpc

from tests.integration.calls import STRONG, Api, refused
from tests.integration.nodes import Node
from tests.support.deadline import eventually
from tests.support.processes import http_status
from tests.support.small_disk import small_disk


async def test_a_node_with_a_full_disk_is_not_ready_until_there_is_space(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as disk:
        env = {"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256"}
        async with Node(data_dir=disk.directory / "node", env=env) as node, Api(node.grpc_address) as api:
            before = await api.issue("alice")
            disk.fill(node.pid)

            async def fails() -> bool:
                try:
                    await api.issue("alice")
                except grpc.aio.AioRpcError:
                    return True
                return False

            await eventually(fails)
            failure = await refused(api.revoke(subject="alice"))
            assert failure.code is grpc.StatusCode.UNAVAILABLE
            assert failure.reason == "STORE_UNAVAILABLE"
            assert "the database" in failure.message
            assert await eventually(lambda: http_status(node.http_address, "/readyz") == 503)
            assert http_status(node.http_address, "/healthz") == 200
            await api.why(before.access_token)  # reads still work
            disk.free(node.pid)
            assert await eventually(lambda: http_status(node.http_address, "/readyz") == 200)
            await api.issue("alice")
            await api.revoke(subject="alice")
            assert await api.why(before.access_token, consistency=STRONG) == "REVOKED"
            log = node.log_text()
            assert log.count("this node is not ready until it can write again") == 1
            assert log.count("the database can be written again") == 1
