"""Use cases are refused by the rates of the client's policy and of the caller, before they do any work."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.contract.builders import a_client, an_end
from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from token_service.core.access.caller import Caller
from token_service.core.access.rates import network_of
from token_service.core.access.rights import Rights
from token_service.core.clients.client import ClientState
from token_service.core.events.event import Origin
from token_service.core.issuing.commands import IssueCommand, RefreshCommand
from token_service.core.issuing.session_updates import UpdateSessionCommand
from token_service.core.policies.policy import Policy, PolicyBook
from token_service.core.policies.rates import Bucket, Operation, parse_caller_rates, parse_class_rates
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.sessions.store import SessionFilter
from token_service.core.validation.introspector import TokenQuery
from token_service.errors import (
    ClientDisabledError,
    RateLimitedError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    SessionRevokedError,
    WrongClientError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import RevocationTarget

ACCESS = frozenset({TokenKind.ACCESS})
OPAQUE = frozenset({TokenKind.REFRESH, TokenKind.SESSION})


def policy(**rates: str) -> Policy:
    return Policy(rates=parse_class_rates(rates))


def caller(identity: str = "a", **rates: str) -> Caller:
    return Caller(identity, Rights(Rights.everything(), parse_caller_rates(rates)), identity=identity)


async def a_node(**rates: str) -> Node[ManualClock]:
    return await Node(ManualClock(), max_staleness=1e12, policy=policy(**rates)).start()


async def bucket(call: Awaitable[object]) -> str:
    """Return the bucket that refuses a call; empty: the call succeeds."""
    try:
        await call
    except RateLimitedError as error:
        caught = error
    else:
        return ""
    assert caught.retry_after is not None
    assert 0 < caught.retry_after < 70
    return caught.metadata["bucket"]


def issue(
    node: Node, subject: str, client_id: str = "web", address: str = "", **fields: Any
) -> Awaitable[object]:
    return node.issue(subject, client_id, kinds=ACCESS, client_context=Origin(ip_address=address), **fields)


# --- IssueToken -------------------------------------------------------------------------------------------------------


async def test_issue_is_limited_per_subject_and_others_are_not() -> None:
    node = await a_node(issue_per_subject="2/1m")
    assert [await bucket(issue(node, "alice")) for _ in range(3)] == ["", "", "subject"]
    assert await bucket(issue(node, "bob")) == ""
    assert await bucket(issue(node, "alice", "mobile")) == "subject", "clients of one classification share it"
    assert node.limited == [(Operation.ISSUE, Bucket.SUBJECT)] * 2
    node.clock.elapsed += 70
    assert await bucket(issue(node, "alice")) == ""


async def test_issue_is_limited_per_client_and_per_address() -> None:
    node = await a_node(issue_per_client="3/1m", issue_per_address="2/1m")
    answers = [await bucket(issue(node, f"s-{n}", address="192.0.2.1")) for n in range(3)]
    assert answers == ["", "", "address"]
    assert await bucket(issue(node, "s", address="192.0.2.2")) == ""
    assert await bucket(issue(node, "s", address="192.0.2.2")) == "client"
    assert await bucket(issue(node, "s", "mobile", address="192.0.2.3")) == ""


async def test_calls_without_an_address_are_not_counted_by_it() -> None:
    node = await a_node(issue_per_address="1/1m")
    assert [await bucket(issue(node, "s")) for _ in range(5)] == [""] * 5


async def test_calls_refused_for_one_subject_do_not_use_up_the_rate_of_the_client() -> None:
    node = await a_node(issue_per_subject="1/1m", open_session_per_client="3/1m", issue_per_client="3/1m")
    refused = [await bucket(node.issue("mallory")) for _ in range(20)]
    assert refused == [""] + ["subject"] * 19
    assert [await bucket(node.issue(f"s-{n}")) for n in range(3)] == ["", "", "client"]


async def test_each_classification_counts_for_itself() -> None:
    node = await a_node()
    limited = policy(issue_per_subject="1/1m")
    node.policies.book = PolicyBook({"internal": limited, "public": limited}, {"shop": "public"})
    assert [await bucket(issue(node, "alice", "web")) for _ in range(2)] == ["", "subject"]
    assert [await bucket(issue(node, "alice", "shop")) for _ in range(2)] == ["", "subject"]


async def test_classification_in_the_registry_counts() -> None:
    node = await a_node()
    limited = policy(issue_per_subject="1/1m")
    node.policies.book = PolicyBook({"internal": limited, "public": limited})
    await node.stores.clients.create(a_client("shop", classification="public"))
    await node.tailer.start()
    assert [await bucket(issue(node, "alice", "web")) for _ in range(2)] == ["", "subject"]
    assert [await bucket(issue(node, "alice", "shop")) for _ in range(2)] == ["", "subject"]


async def test_client_disabled_while_its_call_is_counted_gets_no_token() -> None:
    """A token with a later place in the log than the revocation of its client would outlive it."""

    class Disabling:
        async def take(self, *_: object) -> float:
            await node.revoker.append([an_end("web", ClientState.DISABLED)])
            return 0.0

    node = await Node(
        ManualClock(), max_staleness=1e12, counters=Disabling(), policy=policy(issue_per_client="5/1m")
    ).start()
    await node.stores.clients.create(a_client("web"))
    await node.tailer.start()
    with pytest.raises(ClientDisabledError):
        await issue(node, "alice")


async def test_sessions_are_limited_and_access_tokens_alone_are_not() -> None:
    node = await a_node(open_session_per_subject="1/1m")
    assert await bucket(node.issue("alice")) == ""
    assert await bucket(node.issue("alice", kinds=OPAQUE)) == "subject"
    assert await bucket(issue(node, "alice")) == ""
    listed = await node.stores.sessions.list(
        SessionFilter.SUBJECT, "alice", live_at=None, limit=10, after=None
    )
    assert len(listed) == 1, "a refused call leaves nothing"
    assert node.limited == [(Operation.OPEN_SESSION, Bucket.SUBJECT)]


async def test_refused_call_says_what_and_not_who() -> None:
    node = await a_node(issue_per_subject="1/1m")
    await issue(node, "alice")
    with pytest.raises(RateLimitedError) as caught:
        await issue(node, "alice")
    assert caught.value.metadata == {"bucket": "subject", "operation": "issue", "rate": "1/1m"}
    assert caught.value.message == "the rate of issue per subject is reached: 1/1m"
    assert "alice" not in str(caught.value)
    assert caught.value.retry_after == pytest.approx(60, abs=4)


async def test_changed_policy_takes_effect_at_once() -> None:
    node = await a_node(issue_per_client="1/1m")
    await issue(node, "s")
    assert await bucket(issue(node, "s")) == "client"
    node.policy = policy(issue_per_client="2/1m")
    assert [await bucket(issue(node, "s")) for _ in range(3)] == ["", "", "client"]
    node.policy = Policy()
    assert await bucket(issue(node, "s")) == ""


# --- RefreshToken -----------------------------------------------------------------------------------------------------


async def test_refresh_is_limited_and_the_token_stays_usable() -> None:
    node = await a_node(refresh_per_client="2/1m")
    token = (await node.issue()).refresh_token
    for _ in range(2):
        token = (await node.refresh(token)).refresh_token
    assert [await bucket(node.refresh(token)) for _ in range(3)] == ["client"] * 3
    node.clock.elapsed += 70
    assert (await node.refresh(token)).refresh_token
    assert node.limited == [(Operation.REFRESH, Bucket.CLIENT)] * 3


async def test_refresh_is_limited_per_subject_over_its_sessions() -> None:
    node = await a_node(refresh_per_subject="2/1m")
    tokens = [(await node.issue("alice")).refresh_token for _ in range(3)]
    assert [await bucket(node.refresh(token)) for token in tokens] == ["", "", "subject"]
    assert await bucket(node.refresh((await node.issue("bob")).refresh_token)) == ""


@pytest.mark.parametrize("name", ["refresh_per_client", "refresh_per_subject"])
async def test_lost_answer_within_grace_is_repeated_though_the_rate_is_reached(name: str) -> None:
    """A client told to come back after the grace period would count as a thief."""
    node = await a_node(**{name: "1/1m"})
    old = (await node.issue()).refresh_token
    new = (await node.refresh(old)).refresh_token
    assert (await node.refresh(old)).refresh_token == new
    expected = name.removeprefix("refresh_per_")
    assert await bucket(node.refresh(new)) == expected
    node.clock.elapsed += 70
    assert await bucket(node.refresh(new)) == ""


async def test_reused_token_revokes_its_family_though_the_rate_is_reached() -> None:
    node = await a_node(refresh_per_client="2/1m")
    first = (await node.issue()).refresh_token
    second = (await node.refresh(first)).refresh_token
    third = (await node.refresh(second)).refresh_token
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(first)
    with pytest.raises(SessionRevokedError):
        await node.refresh(third)


async def test_refused_refresh_has_the_error_of_a_wrong_token_first() -> None:
    node = await a_node(refresh_per_client="1/1m")
    token = (await node.issue("alice", "web")).refresh_token
    for _ in range(2):
        with pytest.raises(WrongClientError):
            await node.refresh(token, "other")
    assert node.limited == [(Operation.REFRESH, Bucket.CLIENT)]


async def test_forged_tokens_count() -> None:
    node = await a_node(refresh_per_client="1/1m")
    with pytest.raises(RefreshTokenInvalidError):
        await node.refresh("r_x")
    assert await bucket(node.refresh("r_x")) == "client"


# --- Other use cases --------------------------------------------------------------------------------------------------


async def test_updates_and_extensions_of_sessions_share_a_rate() -> None:
    node = await a_node(update_session_per_client="2/1m")
    session = (await node.issue()).session_id

    def extend() -> Awaitable[object]:
        return node.sessions.extend(Caller.system(), session, "web", None, node.clock.now())

    def update() -> Awaitable[object]:
        command = UpdateSessionCommand(
            session_id=session, client_id="web", fields=frozenset({"custom_claims"}), custom_claims={"a": 1}
        )
        return node.core.session_updates.update(Caller.system(), command, node.clock.now())

    assert [await bucket(extend()), await bucket(update()), await bucket(extend()), await bucket(update())] == [
        "", "", "client", "client",
    ]  # fmt: skip
    assert node.limited == [(Operation.UPDATE_SESSION, Bucket.CLIENT)] * 2


Call = Callable[[Node[ManualClock], Caller], Awaitable[object]]


async def _issue(node: Node[ManualClock], by: Caller) -> None:
    await node.issuer.issue(
        by, IssueCommand(subject="alice", client_id="web", kinds=ACCESS), node.clock.now()
    )


async def _open(node: Node[ManualClock], by: Caller) -> None:
    await node.issuer.issue(by, IssueCommand(subject="alice", client_id="web"), node.clock.now())


async def _refresh(node: Node[ManualClock], by: Caller) -> None:
    token = (await node.issue()).refresh_token
    await node.refresher.refresh(by, RefreshCommand(refresh_token=token, client_id="web"), node.clock.now())


async def _revoke(node: Node[ManualClock], by: Caller) -> None:
    token = (await node.issue()).refresh_token
    await node.revoker.revoke(by, RevokeCommand(token=token), node.clock.now())


async def _revoke_name(node: Node[ManualClock], by: Caller) -> None:
    command = RevokeCommand(target=RevocationTarget.SUBJECT, value="alice")
    await node.revoker.revoke(by, command, node.clock.now())


async def _extend(node: Node[ManualClock], by: Caller) -> None:
    session = (await node.issue()).session_id
    await node.sessions.extend(by, session, "web", None, node.clock.now())


async def _validate(node: Node[ManualClock], by: Caller) -> None:
    token = (await node.issue(kinds=OPAQUE)).session_token
    await node.introspector.validate(by, TokenQuery(token))


async def _validate_batch(node: Node[ManualClock], by: Caller) -> None:
    token = (await node.issue(kinds=OPAQUE)).session_token
    async for _ in node.introspector.validate_batch(by, 1, [TokenQuery(token)]):
        pass


@pytest.mark.parametrize(
    ("operation", "call"),
    [
        (Operation.ISSUE, _issue),
        (Operation.ISSUE, _open),
        (Operation.OPEN_SESSION, _open),
        (Operation.REFRESH, _refresh),
        (Operation.REVOKE, _revoke),
        (Operation.REVOKE, _revoke_name),
        (Operation.REVOKE_NAMES, _revoke_name),
        (Operation.UPDATE_SESSION, _extend),
        (Operation.VALIDATE_OPAQUE, _validate),
        (Operation.VALIDATE_OPAQUE, _validate_batch),
    ],
)
async def test_caller_is_limited_by_its_own_rate(operation: Operation, call: Call) -> None:
    node = await a_node()
    one, other = caller("one", **{operation: "2/1m"}), caller("other", **{operation: "2/1m"})
    assert [await bucket(call(node, one)) for _ in range(3)] == ["", "", "caller"]
    assert await bucket(call(node, other)) == ""
    assert await bucket(call(node, caller("one"))) == "", "without a rate there is no limit"
    assert node.limited == [(operation, Bucket.CALLER)]


async def test_validation_of_a_jwt_is_never_limited() -> None:
    node = await a_node(issue_per_client="100/1s")
    by = caller(validate_opaque="1/1d")
    query = TokenQuery((await node.issue()).access_token)
    for _ in range(5):
        assert (await node.introspector.validate(by, query)).reason is None
        assert node.introspector.validate_jwt(by, query, node.clock.now()).reason is None


async def test_rate_of_a_caller_replaces_the_quota_of_revoked_names() -> None:
    node = await Node(ManualClock(), max_staleness=1e12, max_revocations=1).start()
    by = caller(revoke_names="3/1m")
    assert [await bucket(_revoke_name(node, by)) for _ in range(4)] == ["", "", "", "caller"]
    by = replace(by, rights=Rights.everything())
    assert [await bucket(_revoke_name(node, by)) for _ in range(2)] == ["", "caller"]


async def test_without_rates_nothing_is_counted() -> None:
    class Untouched:
        async def take(self, *_: object) -> float:
            raise AssertionError("no rate is configured")

    node = await Node(ManualClock(), max_staleness=1e12, counters=Untouched()).start()
    for call in (_issue, _open, _refresh, _revoke, _revoke_name, _extend, _validate):
        await call(node, caller())


async def test_names_are_counted_as_digests_under_the_log() -> None:
    class Recording:
        def __init__(self) -> None:
            self.taken: list[tuple[object, ...]] = []

        async def take(self, *of: object) -> float:
            self.taken.append(of)
            return 0.0

    counters = Recording()
    node = await Node(
        ManualClock(),
        max_staleness=1e12,
        counters=counters,
        policy=policy(issue_per_subject="5/1m", issue_per_client="6/1m", issue_per_address="7/1m"),
    ).start()
    await issue(node, "alice@example.org", address="192.0.2.1")
    head = await node.stores.log.head()
    assert [str(rate) for _, _, rate in counters.taken] == ["5/1m", "7/1m", "6/1m"], (
        "the most shared one is last"
    )
    assert {log for log, _, _ in counters.taken} == {head.epoch}
    keys = [str(key) for _, key, _ in counters.taken]
    assert all(len(key) == 32 and set(key) <= set("0123456789abcdef") for key in keys)
    assert len(set(keys)) == 3


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::1", "2001:db8::/64"),
        ("2001:0DB8:0:0:ffff::2", "2001:db8::/64"),
        ("2001:db8:0:1::1", "2001:db8:0:1::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("unix:", "unix:"),
        ("", ""),
    ],
)
def test_ipv6_address_counts_as_its_network(address: str, network: str) -> None:
    assert network_of(address) == network
