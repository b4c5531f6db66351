"""Envoy with the gateway (ext_authz), beside Envoy with jwt_authn alone and Envoy without a check.

One Envoy with one worker has a listener for each of them. They take turns under the same load.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median
from typing import Any

import grpc
import httpx

from tests.benchmarks.duel import Effort
from tests.benchmarks.rpcs import SERVICE, access_request, claims
from tests.benchmarks.table import Row
from tests.support.envoy import Envoy
from tests.support.gateway_process import ISSUER, GatewayProcess
from tests.support.h2load import rate
from tests.support.ports import free_port, release_port
from tests.support.processes import ServiceProcess
from token_service.v1 import token_service_pb2 as pb

_HTTP = "envoy.extensions.filters.http"
_PATH = "/orders/17?expand=items"


def envoy(effort: Effort) -> Iterator[Row]:
    """Measure requests with the same token."""
    audience = claims()["audience"][0]
    ports = {name: free_port() for name in ("jwt_authn", "none", "app")}
    with ExitStack() as stack:
        service = stack.enter_context(ServiceProcess(env={"TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256"}))
        gateway = stack.enter_context(GatewayProcess(service.grpc_address, audience=audience))
        with grpc.insecure_channel(service.grpc_address) as channel:
            issue: Any = channel.unary_unary(f"{SERVICE}IssueToken")
            issued = pb.IssueTokenResponse.FromString(issue(access_request().SerializeToString(), timeout=30))
        keys = httpx.get(f"{service.http_url}/.well-known/jwks.json").text
        filters = {
            "ext_authz": [_ext_authz()],
            "jwt_authn": [_jwt_authn(keys, audience)],
            "none": [],
        }
        proxy = Envoy("")
        ports["ext_authz"] = proxy.port
        proxy.configuration = json.dumps(_bootstrap(filters, ports, gateway.grpc_address))
        stack.enter_context(proxy)
        rates = _rates(
            {name: f"http://127.0.0.1:{ports[name]}{_PATH}" for name in filters}, issued.access_token, effort
        )
    for name in ("jwt_authn", "none", "app"):
        release_port(ports[name])
    ours = rates["ext_authz"]
    for name, label in (("jwt_authn", "jwt_authn alone"), ("none", "no check")):
        yield Row(
            f"Envoy with ext_authz, by {label}",
            f"{median(ours):,.0f}/s",
            f"{median(rates[name]):,.0f}/s",
            median(a / b for a, b in zip(ours, rates[name], strict=True)),
        )


def _rates(urls: dict[str, str], token: str, effort: Effort) -> dict[str, list[float]]:
    names = [*urls]
    found: dict[str, list[float]] = {name: [] for name in names}
    seconds = max(1, round(effort.seconds))
    for name in names:
        rate(urls[name], f"Bearer {token}", seconds=1)
    for turn in range(effort.rounds):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            found[name].append(rate(urls[name], f"Bearer {token}", seconds=seconds))
    return found


def _ext_authz() -> dict[str, Any]:
    return {
        "name": "envoy.filters.http.ext_authz",
        "typed_config": {
            "@type": f"type.googleapis.com/{_HTTP}.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "grpc_service": {"envoy_grpc": {"cluster_name": "token-gateway"}, "timeout": "3.5s"},
        },
    }


def _jwt_authn(keys: str, audience: str) -> dict[str, Any]:
    provider = {
        "issuer": ISSUER,
        "audiences": [audience],
        "forward": True,
        "local_jwks": {"inline_string": keys},
        "jwt_cache_config": {"jwt_cache_size": 1000},
    }
    return {
        "name": "envoy.filters.http.jwt_authn",
        "typed_config": {
            "@type": f"type.googleapis.com/{_HTTP}.jwt_authn.v3.JwtAuthentication",
            "providers": {"tokens": provider},
            "rules": [{"match": {"prefix": "/"}, "requires": {"provider_name": "tokens"}}],
        },
    }


def _bootstrap(filters: dict[str, list[Any]], ports: dict[str, int], gateway: str) -> dict[str, Any]:
    to_app = {"match": {"prefix": "/"}, "route": {"cluster": "app"}}
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "ok"}}}
    listeners = [_listener(name, ports[name], chain, to_app) for name, chain in filters.items()]
    http2 = {
        "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }
    }
    gateway_cluster = _cluster("token-gateway", {"pipe": {"path": gateway.removeprefix("unix:")}})
    return {
        "static_resources": {
            "listeners": [*listeners, _listener("app", ports["app"], [], answer)],
            "clusters": [
                gateway_cluster | {"typed_extension_protocol_options": http2},
                _cluster("app", {"socket_address": _address(ports["app"])}),
            ],
        }
    }


def _listener(name: str, port: int, filters: list[Any], route: dict[str, Any]) -> dict[str, Any]:
    router = {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"type.googleapis.com/{_HTTP}.router.v3.Router"},
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": name,
        "http_filters": [*filters, router],
        "route_config": {"virtual_hosts": [{"name": name, "domains": ["*"], "routes": [route]}]},
    }
    return {
        "name": name,
        "address": {"socket_address": _address(port)},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }


def _cluster(name: str, address: dict[str, Any]) -> dict[str, Any]:
    endpoints = [{"lb_endpoints": [{"endpoint": {"address": address}}]}]
    return {"name": name, "load_assignment": {"cluster_name": name, "endpoints": endpoints}}


def _address(port: int) -> dict[str, Any]:
    return {"address": "127.0.0.1", "port_value": port}
