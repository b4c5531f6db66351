"""Caddy with the gateway: the example of deploy/gateways/caddy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.gateway_contract import GatewayContract
from tests.e2e.gateway_world import World
from tests.support.caddy import Caddy


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    replaced = {"https://:8443 {": "https://:{port} {\n\tbind 127.0.0.1", "/etc/caddy/": "{directory}/"}
    with ExitStack() as stack:
        yield World(stack, "caddy", Caddy, "Caddyfile", replaced)


class TestCaddy(GatewayContract):
    status_without_gateway = 502
    status_with_silent_gateway = 504
