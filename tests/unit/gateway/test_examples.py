"""The examples of deploy/gateways: their files fit together. Those that no test runs are checked only here."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from token_service.gateway.loading import load

EXAMPLES = Path(__file__).resolve().parents[3] / "deploy" / "gateways"
ROUTE_NAMED_IN = {
    "envoy/envoy.yaml": r"\broute: ([a-z]+) \}",
    "nginx/nginx.conf": r"\$token_route ([a-z]+);",
    "caddy/Caddyfile": r"import check ([a-z]+)",
    "traefik/dynamic.yaml": r"/auth/([a-z]+)\"",
}
CHECK_TIME = {
    "envoy/envoy.yaml": r"timeout: (3\.5)s",
    "nginx/nginx.conf": r"proxy_read_timeout (3500)ms",
    "caddy/Caddyfile": r"response_header_timeout (3500)ms",
    "istio/mesh.yaml": r"timeout: (3\.5)s",
}


@pytest.mark.parametrize("directory", sorted(path.name for path in EXAMPLES.iterdir() if path.is_dir()))
def test_configuration_of_the_gateway_is_valid(directory: str) -> None:
    loaded = load(EXAMPLES / directory / "gateway.toml")
    assert loaded.settings.tokens.audience == "https://api.example"
    assert loaded.settings.proofs.origin == "https://api.example"
    ran_by_tests = directory in {"envoy", "nginx", "caddy"}
    readme = (EXAMPLES / directory / "README.md").read_text()
    assert ("not run by our tests" in readme.lower()) == (not ran_by_tests)


@pytest.mark.parametrize("file", ROUTE_NAMED_IN)
def test_proxy_names_routes_of_the_gateway(file: str) -> None:
    named = set(re.findall(ROUTE_NAMED_IN[file], (EXAMPLES / file).read_text()))
    settings = load((EXAMPLES / file).parent / "gateway.toml").settings
    assert named
    assert named <= settings.routes.keys()


@pytest.mark.parametrize("file", CHECK_TIME)
def test_proxy_waits_longer_than_the_gateway_takes(file: str) -> None:
    (waits,) = set(re.findall(CHECK_TIME[file], (EXAMPLES / file).read_text()))
    seconds = float(waits) if "." in waits else int(waits) / 1000
    assert seconds > load((EXAMPLES / file).parent / "gateway.toml").settings.limits.deadline
