"""Envoy with the gateway: the example of deploy/gateways/envoy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.gateway_contract import GatewayContract
from tests.e2e.gateway_world import World
from tests.support.envoy import Envoy


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    replaced = {
        "address: 0.0.0.0, port_value: 8443": "address: 127.0.0.1, port_value: {port}",
        "/etc/envoy/": "{directory}/",
    }
    with ExitStack() as stack:
        yield World(stack, "envoy", Envoy, "envoy.yaml", replaced)


class TestEnvoy(GatewayContract):
    status_without_gateway = 503
    status_with_silent_gateway = 503
