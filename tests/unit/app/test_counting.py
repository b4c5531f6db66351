"""Which event counts in which metric."""

from __future__ import annotations

from dataclasses import replace
from hashlib import sha256
from types import SimpleNamespace
from typing import Any

import pytest

from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.app.metering.counting import PortCounts, count_core, event_counter, port_counts
from token_service.core.administration.automatic.rules import (
    AutomaticRules,
    Cause,
    Scope as Per,
    SessionLimits,
    Threshold,
)
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.policies.policy import PolicyBook
from token_service.core.policies.rates import Bucket, Operation
from token_service.telemetry import Metrics
from token_service.telemetry.board import Board

ACTOR = Actor.system("test")


class Scene:
    def __init__(self, top_clients: int = 2) -> None:
        self.board = Board()
        self.metrics = Metrics({}, "node", self.board.segments[0])
        count = event_counter(self.metrics, top_clients)
        assert count is not None
        self.count = count

    def issued(self, client: str, action: Action = Action.TOKEN_ISSUED, **fields: Any) -> None:
        self.count(
            AuditEvent(action=action, actor=ACTOR, target=Target("token", client_id=client), fields=fields)
        )

    def values(self, name: str) -> dict[tuple[str, ...], float]:
        return {series.labels: value for _, series, (value, *_) in self.board.read() if series.name == name}


def test_tokens_count_by_event_type_grant_and_client() -> None:
    scene = Scene()
    scene.issued("web", token_types=("ACCESS", "REFRESH"))
    scene.issued("web", token_types=("personal_access",))
    scene.issued("web", token_types=("ACCESS",), grant_type="urn:ietf:params:oauth:grant-type:jwt-bearer")
    scene.issued("web", token_types=("ACCESS",), grant_type="client_credentials")
    scene.issued("web", Action.TOKEN_REFRESHED, generation=3)
    scene.issued("web", Action.TOKEN_EXCHANGED, token_type="TRANSACTION")
    assert scene.values("token_service.tokens") == {
        ("issued", "access", "direct", "web"): 1,
        ("issued", "refresh", "direct", "web"): 1,
        ("issued", "personal_access", "direct", "web"): 1,
        ("issued", "access", "jwt-bearer", "web"): 1,
        ("issued", "access", "client_credentials", "web"): 1,
        ("refreshed", "access", "refresh_token", "web"): 1,
        ("exchanged", "transaction", "token_exchange", "web"): 1,
    }
    assert scene.values("token_service.events") == {
        ("token.issued",): 4,
        ("token.refreshed",): 1,
        ("token.exchanged",): 1,
        ("refresh_token.reused",): 0,  # shown from the start, so that its alert sees the first one
    }


def test_clients_beyond_the_setting_are_other() -> None:
    scene = Scene(top_clients=1)
    for client in ("a", "b", "c", "a"):
        scene.issued(client, token_types=("ACCESS",))
    assert scene.values("token_service.tokens") == {
        ("issued", "access", "direct", "a"): 2,
        ("issued", "access", "direct", "other"): 2,
    }


def test_token_in_the_place_of_a_client_is_not_on_the_page() -> None:
    scene = Scene()
    token = f"tscs_{'x' * 43}"
    scene.issued(token, token_types=("ACCESS",))
    ((labels, _),) = scene.values("token_service.tokens").items()
    assert labels[3] == f"[token sha256:{sha256(token.encode()).hexdigest()}]"


def test_revocations_count_by_target_and_reason() -> None:
    scene = Scene()
    for reason in ("LOGOUT", "LOGOUT", "COMPROMISED"):
        scene.count(
            AuditEvent(action=Action.REVOKED, actor=ACTOR, target=Target("subject", "alice"), reason=reason)
        )
    assert scene.values("token_service.revoked") == {
        ("subject", "LOGOUT"): 2,
        ("subject", "COMPROMISED"): 1,
    }


def test_rate_decisions_count_by_operation_and_bucket() -> None:
    scene = Scene()
    counts = port_counts(scene.metrics)
    assert counts.rate_admitted is not None
    assert counts.rate_limited is not None
    counts.rate_admitted(Operation.ISSUE, Bucket.CLIENT)
    counts.rate_limited(Operation.ISSUE, Bucket.CLIENT)
    counts.rate_limited(Operation.ISSUE, Bucket.CLIENT)
    assert scene.values("token_service.rate_admitted") == {("issue", "client"): 1}
    assert scene.values("token_service.rate_limited") == {("issue", "client"): 2}


async def test_automatic_revocations_count_by_cause() -> None:
    reused = frozenset({Action.REFRESH_TOKEN_REUSED.value})
    rule = Threshold(name="stolen", actions=reused, count=2, window=600, per=Per.SUBJECT, revoke=Per.SUBJECT)
    limits = {
        "internal": SessionLimits(max_session_age=100, max_inactivity=50),
        "restricted": SessionLimits(on_classification_change=True),
    }
    clock = ManualClock()
    node = await Node(
        clock, automatic_rules=AutomaticRules(limits=limits, thresholds={rule.name: rule})
    ).start()
    scene = Scene()
    stores: Any = SimpleNamespace(pool=SimpleNamespace(on_wait=lambda _: None))
    count_core(scene.metrics, node.core, stores)
    name = "token_service.automatic_revocations"
    zeros = {("age",): 0, ("inactivity",): 0, ("classification",): 0, ("threshold",): 0}
    assert scene.values(name) == zeros, "shown from the start, so that its alert sees the first one"

    used = await node.issue("alice")
    clock.elapsed += 60
    used = await node.refresh(used.refresh_token)
    for subject in ("bob", "carol"):
        await node.issue(subject)
    clock.elapsed += 45
    assert await node.core.limit_enforcer.enforce() == {Cause.AGE: 1}
    clock.elapsed += 6
    await node.core.limit_enforcer.enforce()
    assert scene.values(name) == zeros | {("age",): 1, ("inactivity",): 2}

    await node.issue("dan", "bank")
    node.policies.replace_file(PolicyBook(classifications={"bank": "restricted"}))
    await node.core.limit_enforcer.enforce()
    assert scene.values(name) == zeros | {("age",): 1, ("inactivity",): 2, ("classification",): 1}

    target = Target("refresh_token", subject="erin")
    for ago in (2, 1):
        event = AuditEvent(
            action=Action.REFRESH_TOKEN_REUSED, actor=ACTOR, target=target, time=clock.now() - ago
        )
        await node.stores.audit.append([event])
    await node.stores.events.sequence(500)
    for _ in range(2):  # handled again after a crash: it revokes and counts nothing
        await node.core.threshold_handler.handle(await node.stores.events.read(0, 500))
    assert scene.values(name) == {
        ("age",): 1,
        ("inactivity",): 2,
        ("classification",): 1,
        ("threshold",): 1,
    }


def test_nothing_counts_without_metrics() -> None:
    metrics = Metrics({}, "node")
    assert event_counter(metrics, 20) is None
    counts = port_counts(metrics)
    assert counts == PortCounts()


@pytest.mark.parametrize("place", ["off", "default"])
@pytest.mark.parametrize("console", [None, "console"])
def test_metrics_in_production_are_kept_for_the_charts_of_a_console_only(
    place: str, console: str | None
) -> None:
    from token_service.app.metering.serving import share_of
    from token_service.config import Profile, load_settings

    env = {"TOKEN_SERVICE_METRICS_ADDRESS": "off"} if place == "off" else {}
    settings = replace(load_settings({}, env), profile=Profile.PRODUCTION, console_client_id=console)
    assert (share_of(settings, None) is None) == (console is None)
    assert share_of(load_settings({}, {}), None) is not None
