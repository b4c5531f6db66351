"""nginx with the gateway: the example of deploy/gateways/nginx."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from tests.e2e.gateway_contract import GatewayContract
from tests.e2e.gateway_world import World
from tests.support.nginx import Nginx


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    replaced = {
        "listen 8443": "listen 127.0.0.1:{port}",
        "/etc/nginx/": "{directory}/",
        "/run/nginx.pid": "{directory}/pid",
    }
    with ExitStack() as stack:
        yield World(stack, "nginx", Nginx, "nginx.conf", replaced)


class TestNginx(GatewayContract):
    status_without_gateway = 500
    status_with_silent_gateway = 500
    has_http2_upstreams = False
