# ruff: noqa: ASYNC240  # the files are small and on a local disk
"""Where gRPC listens: every address of a name, and unix sockets."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.support.ports import free_port, release_port
from tests.unit.rpc.serving import TIMEOUT, refused, serving
from token_service.errors import ConfigurationError
from token_service.v1 import token_service_pb2 as pb, token_service_pb2_grpc


@pytest.fixture
def port() -> Iterator[int]:
    port = free_port()
    yield port
    release_port(port)


async def answers(target: str) -> bool:
    async with grpc.aio.insecure_channel(target) as channel:
        stub: Any = token_service_pb2_grpc.TokenServiceStub(channel)
        request = pb.ValidateTokenRequest(token="x")
        return bool((await stub.ValidateToken(request, timeout=TIMEOUT, wait_for_ready=True)).cursor)


async def test_localhost_is_served_on_every_loopback_address() -> None:
    async with serving(address="localhost:0") as served:
        port = served.address.rpartition(":")[2]
        assert await answers(f"127.0.0.1:{port}")
        if socket.has_ipv6 and os.path.exists("/proc/net/if_inet6"):  # noqa: PTH110
            assert await answers(f"[::1]:{port}")


async def test_a_port_that_is_taken_on_one_address_of_a_name_is_refused(port: int) -> None:
    with (
        socket.create_server(("127.0.0.1", port)),
        pytest.raises(ConfigurationError, match=r"TOKEN_SERVICE_GRPC_ADDRESS: .*Address already in use"),
    ):
        async with serving(address=f"localhost:{port}"):
            pass


@pytest.mark.parametrize("name", ["socket", "a b%20c?d#e$(f)"])
async def test_a_unix_socket_is_for_owner_and_group_and_gone_at_the_end(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    mask = os.umask(0)
    try:
        async with serving(address=f"unix:{path}") as served:
            assert served.address == f"unix:{path}"
            assert [each.name for each in tmp_path.iterdir() if each.is_socket()] == [name]
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
            if name == "socket":  # in a target to connect to, the caller has to encode the others
                assert await answers(served.address)
        assert not path.exists()
    finally:
        os.umask(mask)


async def test_the_socket_of_a_killed_server_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    before = path.stat().st_ino, path.stat().st_ctime_ns
    async with serving(address=f"unix:{path}"):
        assert (path.stat().st_ino, path.stat().st_ctime_ns) != before
        assert await answers(f"unix:{path}")


async def test_the_socket_of_a_running_server_is_not_touched(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    async with serving(address=f"unix:{path}"):
        with pytest.raises(ConfigurationError, match="another server listens there"):
            async with serving(address=f"unix:{path}"):
                pass
        assert await answers(f"unix:{path}")
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(ConfigurationError, match="another program listens there"):
            async with serving(address=f"unix:{path}"):
                pass
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(path))


async def test_file_that_is_no_socket_is_not_replaced(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(ConfigurationError, match="the file there is not a socket"):
        async with serving(address=f"unix:{path}"):
            pass
    assert path.read_text() == "precious"
    with pytest.raises(ConfigurationError, match=r"TOKEN_SERVICE_GRPC_ADDRESS: .*No such file or directory"):
        async with serving(address=f"unix:{tmp_path}/none/socket"):
            pass


async def test_calls_over_a_unix_socket_succeed(tmp_path: Path) -> None:
    async with serving(address=f"unix:{tmp_path}/socket") as served:
        issued = await served.issue()
        assert (await served.validate(issued.access_token)).active
        assert (
            await refused(served.tokens.RefreshToken(pb.RefreshTokenRequest()))
        ).code == "INVALID_ARGUMENT"
