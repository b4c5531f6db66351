from __future__ import annotations

import errno
import socket
from contextlib import ExitStack
from typing import Any

import pytest

from token_service.listening import bind_all


class Family6Lacking(socket.socket):
    def __init__(self, family: int, kind: int, protocol: int) -> None:
        if family == socket.AF_INET6:
            raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")
        super().__init__(family, kind, protocol)


def names(sockets: list[socket.socket]) -> list[Any]:
    with ExitStack() as stack:
        for each in sockets:
            stack.enter_context(each)
        return [each.getsockname()[:2] for each in sockets]


def test_all_addresses_of_a_name_get_the_same_free_port() -> None:
    (host4, port4), (host6, port6) = names(bind_all("localhost", 0))
    assert (host4, host6) == ("127.0.0.1", "::1")
    assert port6 == port4 > 0


def test_port_taken_in_one_family_is_refused_or_chosen_again(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(OSError, match="in use"):
            bind_all("localhost", port)
        real = socket.socket.bind
        tried: list[str] = []

        def bind(self: socket.socket, address: Any) -> None:
            tried.append(address[0])
            if (
                len(tried) == 2
            ):  # as if the kernel had chosen a port for the first that is taken in the second
                raise OSError(errno.EADDRINUSE, "Address already in use")
            real(self, address)

        monkeypatch.setattr(socket.socket, "bind", bind, raising=False)
        found = names(bind_all("localhost", 0))
        assert tried == ["127.0.0.1", "::1"] * 2
        assert len({each for _, each in found}) == 1


def test_missing_address_family_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Family6Lacking)
    ((host, port),) = names(bind_all("localhost", 0))
    assert host == "127.0.0.1"
    assert port > 0


def test_single_missing_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "socket", Family6Lacking)
    with pytest.raises(OSError, match="not supported"):
        bind_all("::1", 0)
    with pytest.raises(OSError, match="assign"):
        bind_all("192.0.2.1", 0)


def test_port_is_shared_only_if_both_sockets_request_it() -> None:
    (first,) = bind_all("127.0.0.1", 0, reuse_port=True)
    with first:
        port = first.getsockname()[1]
        (second,) = bind_all("127.0.0.1", port, reuse_port=True)
        with second:
            second.listen()
            with pytest.raises(OSError, match="in use"):
                bind_all("127.0.0.1", port)
