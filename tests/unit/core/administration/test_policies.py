"""Operators read, check and change the policies."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.deadline import eventually
from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.administration.policies import MAX_CHECKS, PolicyCheck
from token_service.core.clients.client import Client, SecurityProfile
from token_service.core.events.store import AuditFilter
from token_service.core.policies.overrides import PolicyDifference
from token_service.core.policies.policy import SETTINGS, Policy, PolicyBook, Source, parse_policy_book
from token_service.errors import (
    ConfigurationError,
    InvalidRequestError,
    OverloadedError,
    PoliciesChangedError,
)

SYSTEM = Caller.system()


async def a_node() -> Node[ManualClock]:
    node = Node(ManualClock())
    await node.start()
    return node


async def test_a_set_override_is_in_force_at_once_and_audited_with_before_and_after():
    node = await a_node()
    changed = await node.core.policy_administration.set(
        SYSTEM,
        [("internal.access_token_ttl", "300"), ("internal.rotate", "true")],
        node.clock.now(),
        comment="INC-1",
    )
    assert changed.revision == 1
    assert changed.differences == [PolicyDifference("internal.access_token_ttl", '"30m"', '"5m"')]
    assert node.policies.of("web").access_token_ttl == 300
    (row,) = await node.stores.audit.list(AuditFilter(actions=("policies.changed",)), limit=9, after=None)
    assert row.comment == "INC-1"
    assert json.loads(row.fields) == {
        "operation": "set",
        "revision": 1,
        "before": {"internal.access_token_ttl": None, "internal.rotate": None},
        "after": {"internal.access_token_ttl": '"5m"', "internal.rotate": "true"},
        "effect": {"internal.access_token_ttl": ['"30m"', '"5m"']},
    }


async def test_a_repeated_set_changes_nothing():
    node = await a_node()
    policies = node.core.policy_administration
    await policies.set(SYSTEM, [("internal.rotate", "false")], node.clock.now())
    again = await policies.set(SYSTEM, [("internal.rotate", "false")], node.clock.now())
    assert (again.revision, again.differences) == (1, ())
    changes = AuditFilter(actions=("policies.changed",))
    assert len(await node.stores.audit.list(changes, limit=9, after=None)) == 1


async def test_a_reset_lets_the_file_count_again():
    node = await a_node()
    policies = node.core.policy_administration
    values = [("internal.rotate", "false"), ("internal.grace_period", '"5s"')]
    await policies.set(SYSTEM, values, node.clock.now())
    one = await policies.reset(SYSTEM, ["internal.rotate"], node.clock.now())
    assert one.differences == [PolicyDifference("internal.rotate", "false", "true")]
    everything = await policies.reset(SYSTEM, [], node.clock.now())
    assert everything.differences == [PolicyDifference("internal.grace_period", '"5s"', '"10s"')]
    assert node.policies.of("web") == Policy()
    assert policies.get(SYSTEM).overrides.values == {}


async def test_a_change_of_another_revision_is_refused_with_the_one_in_force():
    node = await a_node()
    policies = node.core.policy_administration
    await policies.set(SYSTEM, [("internal.rotate", "false")], node.clock.now())
    with pytest.raises(PoliciesChangedError) as raised:
        await policies.set(SYSTEM, [("internal.rotate", "true")], node.clock.now(), revision=7)
    assert raised.value.metadata == {"revision": "1"}
    with pytest.raises(PoliciesChangedError):
        await policies.reset(SYSTEM, [], node.clock.now(), revision=7)
    assert node.policies.of("web").rotate is False
    changed = await policies.set(SYSTEM, [("internal.rotate", "true")], node.clock.now(), revision=1)
    assert changed.revision == 2


async def test_revision_0_is_the_one_before_the_first_change():
    node = await a_node()
    policies = node.core.policy_administration
    first = await policies.set(SYSTEM, [("internal.rotate", "false")], node.clock.now(), revision=0)
    assert first.revision == 1
    with pytest.raises(PoliciesChangedError):
        await policies.set(SYSTEM, [("internal.rotate", "true")], node.clock.now(), revision=0)


async def test_check_of_a_reset_tells_problems_or_differences_and_changes_nothing():
    node = await a_node()
    policies = node.core.policy_administration
    values = [("internal.max_retries", "0"), ("internal.grace_period", '"0s"')]
    await policies.set(SYSTEM, values, node.clock.now())
    assert policies.check_reset(SYSTEM, ["internal.rotate"]) == PolicyCheck(differences=[])
    both = policies.check_reset(SYSTEM, ["internal.grace_period", "internal.max_retries"])
    assert both.differences == [
        PolicyDifference("internal.grace_period", '"0s"', '"10s"'),
        PolicyDifference("internal.max_retries", "0", "100"),
    ]
    (problem,) = policies.check_reset(SYSTEM, ["internal.grace_period"]).problems
    assert "0 with a grace_period of 10 s" in problem
    assert policies.get(SYSTEM).overrides.revision == 1


@pytest.mark.parametrize(
    ("changes", "violations"),
    [
        ([], {"changes.values": "must have from 1 to 256 items"}),
        (
            [("internal.rotate", "5"), ("internal.acess_token_ttl", "1")],
            {
                "changes.values[0]": "neither true nor false",
                "changes.values[1]": "did you mean access_token_ttl",
            },
        ),
        ([("internal.rotate", "true"), ("internal.rotate", "false")], {"changes.values[1]": "is set twice"}),
        ([("internal.max_retries", "0")], {"changes.values": "0 with a grace_period of 10 s"}),
        (
            [("internal.default_audience", "x" * 4097)],
            {"changes.values[0].value": "is longer than 4096 bytes"},
        ),
        ([(f"a{n}.rotate", "t" * 4000) for n in range(9)], {"changes.values": "more than 32768 characters"}),
    ],
)
async def test_a_set_that_would_be_invalid_names_every_problem_and_changes_nothing(changes, violations):
    node = await a_node()
    with pytest.raises(InvalidRequestError) as raised:
        await node.core.policy_administration.set(SYSTEM, changes, node.clock.now())
    found = {each.field: each.description for each in raised.value.violations}
    assert found.keys() == violations.keys()
    for field, text in violations.items():
        assert text in found[field]
    assert (await node.stores.policies.load()).revision == 0


async def test_a_reset_that_would_be_invalid_is_refused():
    node = await a_node()
    policies = node.core.policy_administration
    values = [("internal.max_retries", "0"), ("internal.grace_period", '"0s"')]
    await policies.set(SYSTEM, values, node.clock.now())
    with pytest.raises(InvalidRequestError, match="0 with a grace_period of 10 s"):
        await policies.reset(SYSTEM, ["internal.grace_period"], node.clock.now())
    with pytest.raises(InvalidRequestError, match="is no setting of a classification"):
        await policies.reset(SYSTEM, ["internal.grace"], node.clock.now())
    assert node.policies.of("web").grace_period == 0


async def test_a_check_tells_problems_or_differences_and_changes_nothing():
    node = await a_node()
    policies = node.core.policy_administration
    good = policies.check_overrides(SYSTEM, [("internal.rotate", "false")])
    assert (good.problems, good.differences) == ((), [PolicyDifference("internal.rotate", "true", "false")])
    bad = policies.check_overrides(SYSTEM, [("internal.rotate", "5"), ("x.rotate", "true")])
    assert [each.partition(": ")[0] for each in bad.problems] == ["internal.rotate", "x.rotate"]
    together = policies.check_overrides(SYSTEM, [("internal.max_retries", "0")])
    assert "0 with a grace_period of 10 s" in together.problems[0]
    assert (await node.stores.policies.load()).revision == 0
    assert node.policies.of("web") == Policy()


async def test_a_checked_file_is_seen_with_the_overrides():
    node = await a_node()
    policies = node.core.policy_administration
    await policies.set(SYSTEM, [("internal.grace_period", '"5s"')], node.clock.now())
    found = await policies.check_file(SYSTEM, "[classifications.internal]\nrotate = false\ngrace_period = 7")
    assert PolicyDifference("internal.rotate", "true", "false") in found.differences
    assert "internal.grace_period" not in {each.path for each in found.differences}
    wrong = await policies.check_file(SYSTEM, "[classifications.internal]\nrotate = 5\nidle_timeout = true")
    assert len(wrong.problems) == 2
    contradicting = await policies.check_file(SYSTEM, "[classifications.internal]\nmax_retries = 0")
    assert "0 with a grace_period of" in contradicting.problems[0]
    assert (await policies.check_file(SYSTEM, "x =")).problems[0].startswith("the policy file is not TOML")


async def test_a_check_shows_at_most_1000_differences():
    node = await a_node()
    new = 1000 // len(SETTINGS) + 2
    classes = "".join(f"[classifications.c{number}]\n" for number in range(new))
    found = await node.core.policy_administration.check_file(SYSTEM, classes)
    assert (found.problems, len(found.differences)) == ((), 1000)
    built_in = parse_policy_book({}).policies.keys() - node.policies.book.policies.keys()
    assert found.omitted == (new + len(built_in)) * len(SETTINGS) - 1000
    assert found.differences[0].before == ""


async def test_files_are_checked_one_at_a_time_even_if_the_callers_give_up():
    node = await a_node()
    go, running = asyncio.Event(), 0
    most = checked = 0

    async def parse(_text: str) -> PolicyBook:
        nonlocal running, most, checked
        running += 1
        most = max(most, running)
        await go.wait()
        running -= 1
        checked += 1
        return node.policies.book

    policies = node.core.policy_administration
    policies._parse_file = parse
    calls = [asyncio.create_task(policies.check_file(SYSTEM, "")) for _ in range(MAX_CHECKS)]
    await eventually(lambda: running)
    with pytest.raises(OverloadedError):
        await policies.check_file(SYSTEM, "")
    for call in calls[:-1]:
        call.cancel()
    with pytest.raises(OverloadedError):  # the work of the cancelled calls goes on
        await policies.check_file(SYSTEM, "")
    go.set()
    assert await calls[-1] == PolicyCheck(differences=[])
    assert (most, checked) == (1, MAX_CHECKS)
    assert await policies.check_file(SYSTEM, "") == PolicyCheck(differences=[])


async def test_the_policy_of_a_client_has_the_source_of_each_value():
    node = await a_node()
    strict = Policy(id_token_ttl=60)
    node.policies.replace_file(
        PolicyBook({"internal": Policy(), "strict": strict}, audiences={"payroll": "strict"})
    )
    await node.stores.clients.create(
        Client(client_id="bank", create_time=0, update_time=0, security_profile=SecurityProfile.FAPI2)
    )
    await node.clients.refresh()
    policies = node.core.policy_administration
    values = [
        ("internal.rotate", "true"),
        ("internal.binding_required", "false"),
        ("internal.grace_period", "5"),
    ]
    await policies.set(SYSTEM, values, node.clock.now())
    found = policies.get(SYSTEM, "bank", ["payroll"])
    assert (found.classification, found.default_classification) == ("internal", "internal")
    by_path = {each.path.partition(".")[2]: (each.value, each.source) for each in found.values}
    assert by_path["grace_period"] == ('"5s"', Source.OVERRIDE)
    assert by_path["id_token_ttl"] == ('"1m"', Source.AUDIENCE)
    assert by_path["idle_timeout"] == ('"7d"', Source.DEFAULT)
    # No override weakens the rules of FAPI 2.0.
    for name, value in {"rotate": "false", "binding_required": "true", "dpop_nonces": "true"}.items():
        assert by_path[name] == (value, Source.REGISTRATION)
    policy = node.policies.of("bank")
    assert (policy.rotate, policy.binding_required, policy.dpop_nonces) == (False, True, True)


async def test_a_node_does_not_start_with_overrides_that_contradict_its_file():
    first = await a_node()
    first.policies.replace_file(PolicyBook({"internal": Policy(), "partner": Policy()}))
    await first.core.policy_administration.set(SYSTEM, [("partner.rotate", "false")], first.clock.now())
    second = Node(ManualClock(), stores=first.stores)
    with pytest.raises(ConfigurationError, match=r"no classification 'partner'(?s:.)*policies reset"):
        await second.start()
