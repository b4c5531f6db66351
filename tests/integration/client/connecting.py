"""Validators of services with TLS, for tests of connections."""

from __future__ import annotations

from typing import Any

import grpc

from tests.support.certificates import Authority, Certificate
from tests.support.fake_token_service import FakeTokenService
from tests.support.token_mint import AUDIENCE
from token_service.client.config import Backoff, Freshness, ServiceIssuer, ValidatorConfig


def server_credentials(server: Certificate, *, callers: Authority | None = None) -> grpc.ServerCredentials:
    """Return TLS credentials with this certificate; with `callers`, require a client certificate of that authority."""
    return grpc.ssl_server_credentials(
        [(server.key, server.certificate)],
        callers.certificate if callers is not None else None,
        require_client_auth=callers is not None,
    )


def roots(authority: Authority) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(authority.certificate)


def config_for(service: FakeTokenService, **changes: Any) -> ValidatorConfig:
    """Return a validator's configuration with fast retries. `changes` are fields of `ServiceIssuer`."""
    fields: dict[str, Any] = {
        "issuer": service.issuer,
        "target": service.address,
        "freshness": Freshness(bound=9.0, probe_timeout=9.0),
        "remote_timeout": 30.0,
        "reconnect": Backoff(initial=0.02, longest=0.2),
    }
    return ValidatorConfig(issuers=[ServiceIssuer(**{**fields, **changes})], audience=AUDIENCE)
