"""What the rules about risk do to refreshes, requests for tokens and extensions."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.issuing.risky import AT_HOME, AT_THE_OFFICE, ELSEWHERE, RiskyNode
from tests.unit.core.node import Intercepted, raising
from tests.unit.core.risk.scenes import ABROAD, CURL, HOME, NEWER_FIREFOX, OFFICE
from tests.unit.core.virtual_time import START, ManualClock, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.events.event import NO_ORIGIN, Origin
from token_service.core.events.store import AuditFilter
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.policies.policy import DAY, Policy
from token_service.core.policies.rates import Rate
from token_service.core.risk.rules import NO_RULES
from token_service.core.risk.signals import (
    ConcurrentUse,
    ImpossibleTravel,
    IssuanceRate,
    NewCountry,
    NewDevice,
    NewNetwork,
    RecentRefusals,
    RefreshTokenReuse,
    RenewalRhythm,
)
from token_service.core.risk.verdict import RiskAction
from token_service.errors import (
    AuthenticationInsufficientError,
    InvalidReason,
    RefreshTokenReusedError,
    RiskRefusedError,
    SessionRevokedError,
    StoreUnavailableError,
    WrongClientError,
)
from token_service.tokens.claims import AuthContext, TokenKind


async def a_node(action: RiskAction = RiskAction.REFUSE, *signals, **options) -> RiskyNode:
    return await RiskyNode(action, *signals, **options).start()


# --- Statements -------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_refresh_from_the_usual_origin_is_one_statement():
    node = await a_node()
    tokens = await node.session_at()
    for _ in range(3):
        node.calls.calls.clear()
        tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
        assert node.calls.calls == ["rotate"]
        node.clock.elapsed += 600


@virtual_time
async def test_refresh_from_another_origin_reads_the_session_once():
    node = await a_node(RiskAction.ALERT)
    tokens = await node.session_at()
    node.calls.calls.clear()
    await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert node.calls.calls == ["rotate", "describe", "rotate"]


@virtual_time
async def test_without_rules_nothing_is_compared_or_kept():
    node = await a_node()
    node.core.risk.replace(NO_RULES)
    tokens = await node.session_at()
    node.calls.calls.clear()
    tokens = await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert node.calls.calls == ["rotate"]
    assert await node.origins(tokens) == []
    assert node.audit.named("risk.detected") == []


@virtual_time
async def test_tag_survives_the_change_of_the_key_for_opaque_tokens():
    node = await a_node(policy=Policy(refresh_token_ttl=400 * DAY, idle_timeout=400 * DAY))
    tokens = await node.session_at()
    before = node.keyring.mac_keys.active
    node.clock.elapsed += 100 * DAY
    for _ in range(4):
        await node.key_rotation.advance()
    assert node.keyring.mac_keys.active != before
    for _ in range(2):
        node.calls.calls.clear()
        tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
        assert node.calls.calls == ["rotate"]
        node.clock.elapsed += 600
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)


# --- Actions ----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_alert_writes_an_event_and_lets_the_use_pass():
    node = await a_node(RiskAction.ALERT)
    tokens = await node.session_at()
    later = await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert later.access_token
    (event,) = node.audit.named("risk.detected")
    assert (event["session_id"], event["outcome"], event["action"], event["score"], event["country"]) == (
        tokens.session_id,
        "success",
        "alert",
        15,
        "AU",
    )
    assert event["evidence"] == [
        {"signal": "new_network", "weight": 15, "detail": "another network than before"}
    ]
    assert await node.origins(tokens) == [ABROAD, HOME]


@virtual_time
async def test_refusal_leaves_the_session_and_its_token_as_they_are():
    node = await a_node(RiskAction.REFUSE)
    tokens = await node.session_at()
    before = await node.session(tokens.session_id)
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert await node.session(tokens.session_id) == before
    assert await node.origins(tokens) == [HOME]
    (event,) = node.audit.named("risk.detected")
    assert (event["action"], event["outcome"]) == ("refuse", "denied")
    assert (await node.refresh(tokens.refresh_token, client_context=AT_HOME)).refresh_token


@virtual_time
async def test_step_up_demands_a_new_authentication_and_accepts_it():
    node = await a_node(RiskAction.STEP_UP)
    tokens = await node.session_at(auth_context=AuthContext("", (), int(START)))
    with pytest.raises(AuthenticationInsufficientError) as caught:
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert caught.value.metadata == {"max_age": "300"}
    node.authenticate_again()
    node.clock.elapsed += 300
    assert (await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)).access_token
    assert [each["action"] for each in node.audit.named("risk.detected")] == ["step_up", "alert"]
    assert await node.origins(tokens) == [ABROAD, HOME]


@virtual_time
async def test_authentication_is_too_old_for_a_step_up_after_five_minutes():
    node = await a_node(RiskAction.STEP_UP)
    tokens = await node.session_at()
    node.authenticate_again()
    node.clock.elapsed += 301
    with pytest.raises(AuthenticationInsufficientError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)


@virtual_time
async def test_login_that_opened_the_session_is_no_step_up():
    """A thief who uses a stolen token a minute after the login has not been authenticated."""
    node = await a_node(RiskAction.STEP_UP)
    tokens = await node.issue(client_context=AT_HOME, auth_context=AuthContext("", (), int(node.clock.now())))
    node.clock.elapsed += 60
    with pytest.raises(AuthenticationInsufficientError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    node.authenticate_again()
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    with pytest.raises(AuthenticationInsufficientError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)


@virtual_time
async def test_revocation_of_the_session_is_durable_before_the_answer():
    node = await a_node(RiskAction.REVOKE_SESSION)
    tokens = await node.session_at()
    with pytest.raises(SessionRevokedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert (await node.validate(tokens.access_token)).reason is InvalidReason.REVOKED
    with pytest.raises(SessionRevokedError):
        await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    revoked, detected = await node.stores.audit.list(AuditFilter(), limit=2, after=None)
    assert (detected.action, revoked.action) == ("risk.detected", "revoked")
    assert (revoked.target_kind, revoked.session_id, revoked.reason) == (
        *("session", tokens.session_id, "COMPROMISED"),
    )
    (line,) = node.audit.named("revoked")
    assert (line["cause"], line["score"]) == ("risk", 15)
    assert line["evidence"] == [
        {"signal": "new_network", "weight": 15, "detail": "another network than before"}
    ]


@virtual_time
async def test_revocation_of_the_subject_ends_its_other_sessions():
    node = await a_node(RiskAction.REVOKE_SUBJECT)
    tokens, other = await node.session_at(), await node.session_at()
    stranger = await node.session_at(subject="bob")
    with pytest.raises(SessionRevokedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    with pytest.raises(SessionRevokedError):
        await node.refresh(other.refresh_token, client_context=AT_HOME)
    assert (await node.refresh(stranger.refresh_token, client_context=AT_HOME)).access_token


@virtual_time
async def test_use_whose_revocation_fails_gets_no_token():
    clock = ManualClock()
    stores = MemoryStores(clock)
    log = Intercepted(stores.log)
    node = await a_node(RiskAction.REVOKE_SESSION, clock=clock, stores=stores, log=log)
    tokens = await node.session_at()
    before = await node.session(tokens.session_id)
    log.before["append"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert await node.session(tokens.session_id) == before


@virtual_time
async def test_dry_run_records_and_lets_the_use_pass():
    node = await a_node(RiskAction.REVOKE_SUBJECT, dry_run=True)
    tokens = await node.session_at()
    assert (await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)).access_token
    (event,) = node.audit.named("risk.detected")
    assert (event["action"], event["dry_run"], event["outcome"]) == ("revoke_subject", True, "success")
    assert node.audit.named("revoked") == []


@virtual_time
async def test_equal_verdicts_about_a_session_are_recorded_once_a_minute():
    node = await a_node(RiskAction.REFUSE)
    tokens = await node.session_at()
    for _ in range(5):
        with pytest.raises(RiskRefusedError):
            await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert len(node.audit.named("risk.detected")) == 1
    node.clock.elapsed += 60
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert len(node.audit.named("risk.detected")) == 2


# --- Signals over the row ---------------------------------------------------------------------------------------------------


@virtual_time
async def test_accepted_network_is_known_afterward_on_every_node():
    node = await a_node(RiskAction.ALERT)
    other = await RiskyNode(
        RiskAction.REFUSE, clock=node.clock, stores=node.stores, node_id="node-2", seed=2
    ).start()
    tokens = await node.session_at()
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_THE_OFFICE)
    for origin in (AT_HOME, AT_THE_OFFICE, AT_HOME):
        node.clock.elapsed += 600
        tokens = await other.refresh(tokens.refresh_token, client_context=origin)
    with pytest.raises(RiskRefusedError):
        await other.refresh(tokens.refresh_token, client_context=ELSEWHERE)


@virtual_time
async def test_first_refresh_is_compared_with_the_origin_of_the_session():
    node = await a_node()
    tokens = await node.issue(client_context=AT_HOME)
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert (await node.refresh(tokens.refresh_token, client_context=AT_HOME)).access_token


@virtual_time
async def test_session_of_a_time_without_rules_is_compared_with_its_last_origin():
    node = await a_node()
    node.core.risk.replace(NO_RULES)
    tokens = await node.session_at(AT_HOME)
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_THE_OFFICE)
    node.rules(RiskAction.REFUSE)
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert await node.origins(tokens) == [HOME, OFFICE]


@virtual_time
async def test_use_without_origin_gives_no_signal_and_stays_out_of_the_history():
    node = await a_node(RiskAction.REFUSE, NewNetwork(), NewDevice(), NewCountry(), ImpossibleTravel())
    tokens = await node.session_at()
    tokens = await node.refresh(tokens.refresh_token, client_context=NO_ORIGIN)
    assert await node.origins(tokens) == [HOME]
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)


@virtual_time
async def test_newer_version_of_the_program_is_the_same_device():
    node = await a_node(RiskAction.REFUSE, NewDevice())
    tokens = await node.session_at()
    node.calls.calls.clear()
    tokens = await node.refresh(tokens.refresh_token, client_context=Origin(HOME, NEWER_FIREFOX))
    assert node.calls.calls == ["rotate"]
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=Origin(HOME, CURL))


@virtual_time
async def test_device_of_a_session_that_is_bound_to_none_is_compared():
    node = await a_node(RiskAction.REFUSE, NewDevice())
    tokens = await node.issue(client_context=AT_HOME)
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME, device_id="phone")
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=AT_HOME, device_id="laptop")


@virtual_time
async def test_retry_within_the_grace_period_is_judged():
    """A thief who uses a stolen token a moment after its owner would otherwise get the successor."""
    node = await a_node()
    tokens = await node.session_at()
    later = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    node.calls.calls.clear()
    again = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    assert again.refresh_token == later.refresh_token
    assert node.calls.calls == ["rotate", "describe", "retry"]


@virtual_time
async def test_session_that_keeps_its_token_is_judged_too():
    node = await a_node(policy=Policy(rotate=False))
    tokens = await node.session_at()
    node.calls.calls.clear()
    await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    assert node.calls.calls == ["get", "use"]
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)


@virtual_time
async def test_quick_renewals_are_counted_until_a_slow_one():
    node = await a_node(
        RiskAction.REFUSE, RenewalRhythm(part=10, times=3), policy=Policy(access_token_ttl=1000)
    )
    tokens = await node.session_at()
    for seconds in (99, 99, 100, 99, 99, 99):
        tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
        node.clock.elapsed += seconds
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    node.clock.elapsed += 1
    assert (await node.refresh(tokens.refresh_token, client_context=AT_HOME)).access_token


@virtual_time
async def test_rhythm_follows_the_lifetime_that_the_session_asked_for():
    node = await a_node(
        RiskAction.REFUSE, RenewalRhythm(part=50, times=1), policy=Policy(access_token_ttl=1000)
    )
    tokens = await node.session_at(access_token_ttl=60)
    for _ in range(3):
        tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
        node.clock.elapsed += 30
    node.clock.elapsed -= 1
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=AT_HOME)


@virtual_time
async def test_two_networks_in_turn_are_concurrent_use():
    node = await a_node(RiskAction.REFUSE, ConcurrentUse(window=300))
    tokens = await node.session_at()
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    node.clock.elapsed += 100
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_THE_OFFICE)
    node.clock.elapsed += 100
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    node.clock.elapsed += 300
    assert (await node.refresh(tokens.refresh_token, client_context=AT_HOME)).access_token


@virtual_time
async def test_travel_is_measured_from_the_last_use_even_if_that_was_the_usual_one():
    node = await a_node(RiskAction.REFUSE, ImpossibleTravel())
    tokens = await node.session_at()
    node.clock.elapsed += 100 * 3600
    tokens = await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    node.clock.elapsed += 3600
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    node.clock.elapsed += 17 * 3600
    assert (await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)).access_token


# --- Counted signals --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_issuance_rate_counts_requests_and_refreshes_of_a_subject():
    node = await a_node(RiskAction.REFUSE, IssuanceRate(rate=Rate(3, 60)))
    tokens = await node.issue()
    for _ in range(3):  # the last one exceeds the rate
        tokens = await node.refresh(tokens.refresh_token)
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token)
    with pytest.raises(RiskRefusedError):
        await node.issue(kinds=frozenset({TokenKind.ACCESS}))
    assert (await node.issue(subject="bob")).access_token
    assert (await node.issue(client_id="app")).access_token
    node.clock.elapsed += 120
    assert (await node.refresh(tokens.refresh_token)).access_token


@virtual_time
async def test_repeated_requests_of_a_revoked_subject_append_one_revocation():
    node = await a_node(RiskAction.REVOKE_SUBJECT, IssuanceRate(rate=Rate(1, 60)))
    await node.issue()
    for _ in range(5):
        with pytest.raises(RiskRefusedError):
            await node.issue()
    assert (await node.log.head()).sequence == 1
    assert len(node.audit.named("risk.detected")) == 1


@virtual_time
async def test_refusals_that_hint_at_theft_are_counted():
    node = await a_node(RiskAction.REFUSE, RecentRefusals(rate=Rate(2, 600)))
    tokens = await node.session_at()
    for _ in range(3):
        with pytest.raises(WrongClientError):
            await node.refresh(tokens.refresh_token, client_id="app", client_context=ELSEWHERE)
    with pytest.raises(RiskRefusedError):
        await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    node.clock.elapsed += 1200
    assert (await node.refresh(tokens.refresh_token, client_context=AT_HOME)).access_token


@virtual_time
async def test_reuse_makes_the_other_sessions_of_the_subject_suspicious():
    node = await a_node(RiskAction.REFUSE, RefreshTokenReuse(window=3600))
    stolen, other = await node.issue(), await node.issue()
    await node.refresh(stolen.refresh_token)
    node.clock.elapsed += 60
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(stolen.refresh_token)
    with pytest.raises(RiskRefusedError):
        await node.refresh(other.refresh_token)
    node.clock.elapsed += 3600
    assert (await node.refresh(other.refresh_token)).access_token


# --- Extensions -------------------------------------------------------------------------------------------------------------


async def extend(node: RiskyNode, session_id: str, origin: Origin) -> None:
    await node.sessions.extend(Caller.system(), session_id, "web", None, node.clock.now(), origin)


@virtual_time
async def test_extension_is_judged_and_changes_no_history():
    node = await a_node()
    tokens = await node.session_at()
    await extend(node, tokens.session_id, AT_HOME)
    before = await node.session(tokens.session_id)
    with pytest.raises(RiskRefusedError):
        await extend(node, tokens.session_id, ELSEWHERE)
    assert await node.session(tokens.session_id) == before
    node.rules(RiskAction.ALERT)
    await extend(node, tokens.session_id, ELSEWHERE)
    assert await node.origins(tokens) == [HOME]


@virtual_time
async def test_extension_can_revoke_the_session():
    node = await a_node(RiskAction.REVOKE_SESSION)
    tokens = await node.session_at()
    with pytest.raises(SessionRevokedError):
        await extend(node, tokens.session_id, ELSEWHERE)
    assert (await node.validate(tokens.access_token)).reason is InvalidReason.REVOKED


# --- Interleavings ----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_rotation_between_judgment_and_statement_is_judged_again():
    """The judgment of a use is worth nothing for a row that has changed since."""
    node = await a_node(RiskAction.ALERT, policy=Policy(rotate=False))
    tokens = await node.session_at()

    async def other_use() -> None:
        node.calls.after.clear()
        await node.refresh(tokens.refresh_token, client_context=AT_THE_OFFICE)

    node.calls.after["describe"] = other_use
    await node.refresh(tokens.refresh_token, client_context=ELSEWHERE)
    assert await node.origins(tokens) == [ABROAD, OFFICE, HOME]


@virtual_time
async def test_lost_answer_of_a_judged_use_is_repeated():
    node = await a_node()
    tokens = await node.session_at()
    node.calls.after["rotate"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.refresh(tokens.refresh_token, client_context=AT_HOME)
    node.calls.after.clear()
    assert (await node.refresh(tokens.refresh_token, client_context=AT_HOME)).session_id == tokens.session_id


@virtual_time
async def test_owner_and_thief_at_once_give_tokens_to_the_owner_only():
    node = await a_node()
    tokens = await node.session_at()
    calls = [
        node.refresh(tokens.refresh_token, client_context=(AT_HOME, ELSEWHERE)[n % 2]) for n in range(10)
    ]
    answers = await asyncio.gather(*calls, return_exceptions=True)
    owned, stolen = answers[::2], answers[1::2]
    assert len({answer.refresh_token for answer in owned if isinstance(answer, IssuedTokens)}) == 1
    assert all(isinstance(answer, IssuedTokens) for answer in owned)
    assert all(isinstance(answer, RiskRefusedError) for answer in stolen)
