"""The shares of file descriptors."""

from __future__ import annotations

import resource

import pytest

from token_service.config.descriptors import ConnectionShares, raise_descriptor_limit, share_connections
from token_service.errors import ConfigurationError


@pytest.mark.parametrize(
    ("descriptors", "pool_size", "max_streams", "shares"),
    [
        (512, 10, 5000, ConnectionShares(grpc=281, http=93)),
        (4096, 96, 5000, ConnectionShares(grpc=2904, http=968)),
        (2**20, 10, 5000, ConnectionShares(grpc=10_000, http=1000)),
        (2**20, 10, 20_000, ConnectionShares(grpc=40_000, http=1000)),
    ],
)
def test_connections_leave_descriptors_for_everything_else(
    descriptors: int, pool_size: int, max_streams: int, shares: ConnectionShares
) -> None:
    assert share_connections(descriptors, pool_size=pool_size, max_streams=max_streams) == shares
    assert shares.grpc + shares.http <= descriptors - 128 - pool_size


def test_too_few_descriptors_are_refused_with_the_number_that_is_needed() -> None:
    with pytest.raises(ConfigurationError, match=r"limit of open files is 200.* at least 202 "):
        share_connections(200, pool_size=10, max_streams=5000)


def test_limit_is_raised_to_the_hard_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    given = {"limit": (256, 4096)}
    monkeypatch.setattr(resource, "getrlimit", lambda _: given["limit"])
    monkeypatch.setattr(resource, "setrlimit", lambda _, limit: given.update(limit=limit))
    assert raise_descriptor_limit() == 4096
    assert given["limit"] == (4096, 4096)
    given["limit"] = (1024, resource.RLIM_INFINITY)
    assert raise_descriptor_limit() == 2**20
    assert given["limit"] == (2**20, resource.RLIM_INFINITY)


def test_limit_that_can_not_be_raised_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise ValueError

    monkeypatch.setattr(resource, "getrlimit", lambda _: (256, 4096))
    monkeypatch.setattr(resource, "setrlimit", refuse)
    assert raise_descriptor_limit() == 256
