"""Nodes that receive security events from a real transmitter, by push and by poll, from the event to the validator."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.integration.calls import TIMEOUT, Api
from tests.integration.nodes import Node, nodes
from tests.support.deadline import eventually
from tests.support.files import rewrite
from tests.support.transmitter import ACCOUNT_DISABLED, CREDENTIAL_CHANGE, Transmitter
from token_service.client import InvalidTokenError, ServiceIssuer, TokenValidator, ValidatorConfig

ISSUER = "http://tokens.localhost"
PUSH = "/ssf/events/corporate"


class Site:
    """A directory of the files of nodes, whose policy file names a transmitter."""

    def __init__(self, directory: Path, transmitter: Transmitter) -> None:
        self.directory, self.transmitter = directory, transmitter
        self.policy = directory / "policy.toml"
        (directory / "push").write_text("push-" + "s" * 24)
        (directory / "poll").write_text(transmitter.bearer)
        self.configure(push=True)

    def configure(self, *, push: bool = False, poll: bool = False, extra: str = "") -> None:
        """Write the policy file."""
        text = f"""
[security_event_transmitters.corporate]
issuer = "{self.transmitter.issuer}"
keys = "{self.transmitter.issuer}/jwks"
audience = "https://tokens.example.org"
algorithms = ["ES256"]
private = true
{extra}
"""
        if push:
            text += f'\n[security_event_transmitters.corporate.push]\ntoken_file = "{self.directory}/push"\n'
        if poll:
            text += (
                f'\n[security_event_transmitters.corporate.poll]\nendpoint = "{self.transmitter.issuer}/poll"\n'
                f'token_file = "{self.directory}/poll"\ninterval = "1s"\n'
            )
        rewrite(self.policy, text)

    @property
    def database(self) -> Path:
        return self.directory / "tokens.db"

    def env(self) -> dict[str, str]:
        return {
            "TOKEN_SERVICE_ISSUER": ISSUER,
            "TOKEN_SERVICE_POLICY_FILE": str(self.policy),
            "TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256",
            "TOKEN_SERVICE_DATABASE_URL": f"sqlite:///{self.database}",
        }

    def node(self) -> Node:
        return Node(env=self.env())

    async def push(self, node: Node, token: str) -> int:
        answer = await asyncio.to_thread(
            self.transmitter.push, f"{node.http_url}{PUSH}", token, "push-" + "s" * 24
        )
        return answer.status_code


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    with Transmitter() as transmitter:
        yield Site(tmp_path, transmitter)


async def refused_by(validator: TokenValidator, token: str) -> bool:
    try:
        await validator.validate(token)
    except InvalidTokenError:
        return True
    return False


async def test_pushed_event_reaches_validators(site: Site) -> None:
    with site.node() as node:
        async with (
            Api(node.grpc_address) as api,
            TokenValidator(
                ValidatorConfig(
                    issuers=[ServiceIssuer(issuer=ISSUER, target=node.grpc_address)], audience="api"
                )
            ) as validator,
        ):
            await validator.wait_ready(TIMEOUT)
            ended = await api.issue("corporate:alice")
            other = await api.issue("corporate:bob")
            for each in (ended, other):
                assert not await refused_by(validator, each.access_token)
            token = site.transmitter.token(event=CREDENTIAL_CHANGE, claims={"change_type": "update"})
            assert await site.push(node, token) == 202
            await eventually(lambda: refused_by(validator, ended.access_token))
            assert not await refused_by(validator, other.access_token)
            later = await api.issue("corporate:alice")
            assert await site.push(node, token) == 202
            await api.revoke(subject="carol", wait=30)  # the validator has seen all before it
            assert not await refused_by(validator, later.access_token)


async def test_rotated_keys_and_changed_settings_count_without_a_restart(site: Site) -> None:
    with site.node() as node:
        assert await site.push(node, site.transmitter.token()) == 202
        site.transmitter.rotate("transmitter-2", keep=False)
        assert await site.push(node, site.transmitter.token()) == 202
        site.configure(push=True, extra='algorithm = ["ES256"]')
        await eventually(lambda: "did you mean algorithms?" in node.log_text())
        assert await site.push(node, site.transmitter.token()) == 202
        site.configure(poll=True)

        async def has_no_push() -> bool:
            return await site.push(node, site.transmitter.token()) == 404

        await eventually(has_no_push)
        await eventually(lambda: site.transmitter.polls)


async def test_polled_events_are_acknowledged_after_their_revocations(site: Site) -> None:
    site.configure(poll=True)
    with site.node() as node:
        async with Api(node.grpc_address) as api:
            ended = [await api.issue(f"corporate:user-{number}") for number in range(30)]
            for number in range(30):
                site.transmitter.offer(
                    [f"set-{number}"], event=ACCOUNT_DISABLED, subject=site.transmitter.user(f"user-{number}")
                )
            site.transmitter.offer(["bad"], aud="other")
            await eventually(lambda: not site.transmitter.queue)
            for each in ended:
                assert await api.why(each.access_token) == "REVOKED"
        async with httpx.AsyncClient(trust_env=False, timeout=TIMEOUT) as http:
            page = (await http.get(f"{node.http_url}/metrics")).text
        for result, count in (("revoked", 30), ("refused", 1)):
            assert (
                f'token_service_security_events_total{{token_service_transmitter="corporate",'
                f'token_service_outcome="{result}"}} {count}'
            ) in page
        assert 'polls_total{token_service_transmitter="corporate",token_service_outcome="succeeded"}' in page
    assert sorted(site.transmitter.acknowledged) == sorted(f"set-{number}" for number in range(30))
    assert {key: each["err"] for key, each in site.transmitter.refused.items()} == {"bad": "invalid_audience"}
    assert all(each["returnImmediately"] is True for each in site.transmitter.polls)


async def test_one_of_two_nodes_polls_and_the_other_takes_over(site: Site) -> None:
    site.configure(poll=True)
    with nodes(2, site.env()) as (first, second):
        await eventually(lambda: site.transmitter.polls)
        site.transmitter.offer(["set-1"])
        await eventually(lambda: "set-1" in site.transmitter.acknowledged)
        # Ask the remaining node in both orders: only one of them had the lease.
        assert await asyncio.to_thread(first.terminate) == 0
        site.transmitter.offer(["set-2"])
        await eventually(lambda: "set-2" in site.transmitter.acknowledged)
        await asyncio.to_thread(first.start)
        assert await asyncio.to_thread(second.terminate) == 0
        site.transmitter.offer(["set-3"])
        await eventually(lambda: "set-3" in site.transmitter.acknowledged)
    assert sorted(_recorded(site)) == ["set-1", "set-2", "set-3"]


async def test_kill_between_receipt_and_acknowledgment_loses_no_event(site: Site) -> None:
    """A transmitter repeats a token until it is acknowledged. Each event ends its sessions and is recorded once."""
    site.configure(push=True, poll=True)
    with site.node() as node:
        async with Api(node.grpc_address) as api:
            sessions = [await api.issue(f"corporate:user-{number}") for number in range(24)]
        tokens = {
            f"set-{number}": site.transmitter.token(
                event=ACCOUNT_DISABLED, jti=f"set-{number}", subject=site.transmitter.user(f"user-{number}")
            )
            for number in range(24)
        }
        pushing = dict(list(tokens.items())[:12])
        site.transmitter.queue |= dict(list(tokens.items())[12:])
        repeating = asyncio.create_task(push_until_accepted(site, node, pushing))
        try:
            for most in (20, 10):

                def has_begun(most: int = most) -> bool:
                    return len(pushing) + len(site.transmitter.queue) <= most

                await eventually(has_begun)
                await asyncio.to_thread(node.kill)
                await asyncio.to_thread(node.start)
            await eventually(lambda: not pushing and not site.transmitter.queue)
        finally:
            repeating.cancel()
        async with Api(node.grpc_address) as api:
            for each in sessions:
                assert await api.why(each.access_token) == "REVOKED"
    assert sorted(_recorded(site)) == sorted(tokens)


async def push_until_accepted(site: Site, node: Node, tokens: dict[str, str]) -> None:
    """Push each token until it is accepted, and remove it then."""
    while tokens:
        for token_id, token in list(tokens.items()):
            try:
                status = await site.push(node, token)
            except httpx.TransportError:
                await asyncio.sleep(0.05)
                continue
            assert status in {202, 503}
            if status == 202:
                del tokens[token_id]


def _recorded(site: Site) -> list[str]:
    """Return the `jti` of each event in the audit trail."""
    with contextlib.closing(sqlite3.connect(site.database)) as connection:
        rows = connection.execute(
            "SELECT target_id FROM audit_events WHERE action = 'security_event.received'"
        ).fetchall()
    return [row[0] for row in rows]
