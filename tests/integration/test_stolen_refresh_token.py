"""One story: a stolen refresh token is used from elsewhere, and all who must know are told."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.integration.calls import TIMEOUT, Api, refused
from tests.integration.nodes import Node, key_encryption_key, nodes
from tests.integration.test_ssf_transmitter import ISSUER, Receiver, pushed_to, received
from tests.support.address_databases import BERLIN, NEW_YORK, write_address_database
from tests.support.deadline import eventually
from tests.support.preloaded import token_service
from tests.support.webhook_receiver import WebhookReceiver
from token_service.client import (
    Freshness,
    InvalidReason,
    InvalidTokenError,
    ServiceIssuer,
    TokenValidator,
    ValidatorConfig,
)
from token_service.core.event_streams.event_types import SESSION_REVOKED
from token_service.v1 import client_service_pb2 as clients, event_service_pb2 as events, token_pb2
from token_service.v1.client_service_pb2_grpc import ClientServiceStub
from token_service.v1.event_service_pb2_grpc import EventServiceStub

S = 5.0
"""The bound of the validator in seconds."""
HOME = token_pb2.ClientContext(ip_address="192.0.2.10", user_agent="Firefox/120")
AWAY = token_pb2.ClientContext(ip_address="203.0.113.30", user_agent="curl/8")
RULES = """
[risk]
locations = ["{locations}"]

[risk.rules]
new_device = {{ weight = 40 }}
new_country = {{ weight = 25 }}
impossible_travel = {{ weight = 30 }}

[risk.thresholds.default]
alert = 20
revoke_session = 70
"""


@dataclass
class Site:
    nodes: list[Node]
    env: dict[str, str]

    def run(self, *arguments: str) -> str:
        """Run a command on the database and return its output."""
        done = subprocess.run(
            [*token_service(), *arguments],
            env=self.env,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture
def site(database_url: str, tmp_path: Path) -> Iterator[Site]:
    locations = write_address_database(
        tmp_path / "city.mmdb", {"192.0.2.0/24": BERLIN, "203.0.113.0/24": NEW_YORK}
    )
    policies = tmp_path / "policies.toml"
    policies.write_text(RULES.format(locations=locations))
    env = {
        "TOKEN_SERVICE_DATABASE_URL": database_url,
        "TOKEN_SERVICE_ISSUER": ISSUER,
        "TOKEN_SERVICE_POLICY_FILE": str(policies),
        "TOKEN_SERVICE_AUDIT_ROUTINE": "sql",
        "TOKEN_SERVICE_ALLOW_PRIVATE_WEBHOOK_URL": "true",
        "TOKEN_SERVICE_ALLOW_PRIVATE_EVENT_RECEIVERS": "true",
    }
    env |= {
        name: key_encryption_key() for name in ("TOKEN_SERVICE_KEY_ENCRYPTION_KEY", "TOKEN_SERVICE_AUDIT_KEY")
    }
    with nodes(2, env) as pair:
        yield Site(pair, {**os.environ, **env, "TOKEN_SERVICE_DATA_DIR": str(pair[0].data_dir)})


async def test_stolen_refresh_token_ends_its_session_and_all_are_told(site: Site, tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        near, far = [await stack.enter_async_context(Api(node.grpc_address)) for node in site.nodes]
        webhook = stack.enter_context(WebhookReceiver())
        secret = await add_webhook(near, webhook.url("told"))
        hub = tmp_path / "hub"
        stack.enter_context(pushed_to(hub, [f"{node.http_url}/.well-known/jwks.json" for node in site.nodes]))
        await add_event_stream(stack, site, near, hub)
        validator = await stack.enter_async_context(TokenValidator(validator_config(site.nodes[1])))

        # The owner logs in and renews at home; the validator accepts the token.
        issued = await near.issue("alice", client_context=HOME)
        owned = await far.refresh(issued.refresh_token, client_context=HOME)
        assert (await validator.validate(owned.access_token)).subject == "alice"

        # A thief uses the token, a moment later and from another continent.
        stolen = await refused(near.refresh(owned.refresh_token, client_context=AWAY))
        answered = time.monotonic()
        assert stolen.reason == "SESSION_REVOKED"

        # The validator, at the other node, refuses within its bound.
        async def is_refused() -> bool:
            asked = time.monotonic()
            try:
                await validator.validate(owned.access_token)
            except InvalidTokenError as error:
                return error.reason is InvalidReason.REVOKED
            assert asked <= answered + S, "a validator accepted the token beyond its bound"
            return False

        await eventually(is_refused)
        assert (
            await refused(far.refresh(owned.refresh_token, client_context=HOME))
        ).reason == "SESSION_REVOKED"

        # The webhook gets the verdict and the revocation; the receiver of security events the end of the session.
        await eventually(lambda: len(webhook.deliveries("told")) >= 2)
        verdict, revoked = [each.verified(secret) for each in webhook.deliveries("told")]
        assert (verdict["type"], revoked["type"]) == ("risk.detected", "revoked")
        assert revoked["data"]["target"]["id"] == issued.session_id
        assert revoked["data"]["fields"]["cause"] == "risk"
        await eventually(lambda: received(hub))
        (told,) = received(hub)
        assert told["sub_id"]["session"]["id"] == issued.session_id
        assert list(told["events"]) == [SESSION_REVOKED]

        explain(site, issued.session_id)
        report(site, tmp_path)


def explain(site: Site, session_id: str) -> None:
    """The audit trail tells why, and verifies."""
    (found,) = json.loads(site.run("explain-revocation", "--session", session_id, "-o", "json"))
    event = found
    fields = event["fields"]
    assert (event["action"], fields["cause"], fields["score"]) == ("revoked", "risk", 95)
    signals = {each["signal"] for each in fields["evidence"]}
    assert signals == {"new_device", "new_country", "impossible_travel"}
    assert "no finding" in site.run("audit", "verify")


def report(site: Site, directory: Path) -> None:
    """The report counts the verdict and the revocation, and verifies."""
    file = directory / "anomalies.json"
    site.run("report", "anomalies", "--from", "1h", "--out", str(file))
    text = file.read_text()
    document: dict[str, Any] = json.loads(text)
    assert "revoke_session" in text
    assert "impossible_travel" in text
    assert (document["report"], document["verified"]) == ("anomalies", True)
    assert (document["figures"]["risk"], document["figures"]["revoked"]) == (1, 1)
    site.run("report", "verify", str(file))


def validator_config(node: Node) -> ValidatorConfig:
    issuer = ServiceIssuer(issuer=ISSUER, target=node.grpc_address, freshness=Freshness(bound=S))
    return ValidatorConfig(issuers=[issuer], audience="api")


async def add_webhook(api: Api, url: str) -> str:
    """Create a webhook for verdicts and revocations; return its secret."""
    types = [events.EVENT_TYPE_RISK_DETECTED, events.EVENT_TYPE_REVOKED]
    request = events.CreateWebhookRequest(webhook=events.Webhook(url=url, types=types))
    created = await EventServiceStub(api.channel).CreateWebhook(request, timeout=TIMEOUT)
    return str(created.secret)


async def add_event_stream(stack: AsyncExitStack, site: Site, api: Api, directory: Path) -> None:
    """Register a receiver of security events, and push those of ended sessions to it."""
    created = await ClientServiceStub(api.channel).CreateClient(
        clients.CreateClientRequest(
            client=clients.Client(
                client_id="hub",
                token_endpoint_auth_method=clients.TOKEN_ENDPOINT_AUTH_METHOD_CLIENT_SECRET_BASIC,
                grant_types=["client_credentials"],
                scopes=["ssf.manage"],
                rights=[clients.Right(permission="receive_events", unbounded=True)],
            )
        ),
        timeout=TIMEOUT,
    )
    http = await stack.enter_async_context(
        httpx.AsyncClient(base_url=site.nodes[0].http_url, trust_env=False, timeout=TIMEOUT)
    )
    await eventually((directory / "port").exists)
    await Receiver([http], created.client_secret).create(
        {
            "method": "urn:ietf:rfc:8935",
            "endpoint_url": f"http://127.0.0.1:{(directory / 'port').read_text()}/events",
            "authorization_header": "Bearer of the receiver",
        }
    )
