"""Single histories of refresh tokens. `test_session_machine` covers random histories."""

from __future__ import annotations

import asyncio
import struct
from collections import Counter
from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.jwts import claims_of, unpad
from tests.unit.core.node import Hook, Intercepted, Node, raising
from tests.unit.core.virtual_time import START, LoopClock, ManualClock, cancelled, settle, virtual_time
from token_service.core import limits
from token_service.core.access.caller import Caller
from token_service.core.events.event import Origin
from token_service.core.issuing.commands import ISSUABLE, IssuedTokens
from token_service.core.policies.policy import Policy, ReuseResponse
from token_service.errors import (
    InvalidReason,
    InvalidRequestError,
    OverloadedError,
    RefreshTokenExpiredError,
    RefreshTokenInvalidError,
    RefreshTokenReusedError,
    ScopeExceededError,
    SessionIdleError,
    SessionRevokedError,
    SigningUnavailableError,
    StoreUnavailableError,
    TooManyRetriesError,
    WrongClientError,
)
from token_service.tokens.claims import TokenKind
from token_service.tokens.opaque_token import MAX_GENERATION, OpaqueToken, parse_opaque_token
from token_service.tokens.revocation import RevocationReason, RevocationTarget
from token_service.tokens.secret import Secret

ACCESS_AND_REFRESH = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})


async def a_node(**options: Any) -> Node[ManualClock]:
    return await Node(ManualClock(), max_staleness=1e12, **options).start()


# --- The successor ----------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_refresh_gives_a_new_refresh_token_and_keeps_the_access_token_in_flight():
    node = await a_node()
    first = await node.issue(scopes=("read",), audience=("api",), custom_claims={"tenant": "t"})
    node.clock.elapsed += 60
    second = await node.refresh(first.refresh_token)
    assert second.refresh_token != first.refresh_token
    assert second.session_id == first.session_id
    old, new = claims_of(first.access_token), claims_of(second.access_token)
    changed = {name for name in old | new if old.get(name) != new.get(name)}
    assert changed == {"jti", "exp", "iat", "nbf"}
    assert (await node.validate(first.access_token)).reason is None
    assert (await node.validate(second.access_token)).reason is None
    assert (await node.validate(first.refresh_token)).reason is InvalidReason.SUPERSEDED


@virtual_time
async def test_rotation_is_one_statement_without_a_new_row():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    tokens = await node.issue()
    for _ in range(5):
        sessions.calls.clear()
        tokens = await node.refresh(tokens.refresh_token)
        assert sessions.calls == ["rotate"]
    assert len(stores.sessions._state.sessions) == 1
    assert (await stores.log.head()).sequence == 0


@virtual_time
async def test_the_successor_is_the_same_on_every_node_that_shares_the_keys():
    node = await a_node()
    other = await Node(node.clock, stores=node.stores, node_id="node-2", seed=2, max_staleness=1e12).start()
    first = await node.issue()
    second = await node.refresh(first.refresh_token)
    assert (await other.refresh(first.refresh_token)).refresh_token == second.refresh_token


@virtual_time
async def test_lost_answer_is_repeated():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    tokens = await node.issue()
    sessions.after["rotate"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.refresh(tokens.refresh_token)
    sessions.after.clear()
    again = await node.refresh(tokens.refresh_token)
    assert (await node.refresh(again.refresh_token)).session_id == tokens.session_id


@virtual_time
async def test_disconnected_caller_loses_no_token():
    clock = LoopClock()
    stores = MemoryStores(clock)
    sessions = Intercepted(stores.sessions)
    node = await Node(clock, stores=stores, sessions=sessions, max_staleness=1e12).start()
    tokens = await node.issue()

    async def slowly() -> None:
        await asyncio.sleep(1)

    sessions.after["rotate"] = slowly
    task = asyncio.create_task(node.refresh(tokens.refresh_token))
    await settle()
    await cancelled(task)
    sessions.after.clear()
    assert (await node.refresh(tokens.refresh_token)).session_id == tokens.session_id


@virtual_time
async def test_without_a_key_to_sign_with_the_token_is_not_used_up():
    node = await a_node()
    tokens = await node.issue()
    working = node.keyring.signer

    def no_signer() -> Any:
        raise SigningUnavailableError

    node.keyring.signer = no_signer  # type: ignore[method-assign]
    with pytest.raises(SigningUnavailableError):
        await node.refresh(tokens.refresh_token)
    node.keyring.signer = working  # type: ignore[method-assign]
    assert (await node.session(tokens.session_id)).generation == 0


class Module:
    """A key outside of this process: it signs with the key of the node, but may be unavailable or slow."""

    def __init__(self, node: Node) -> None:
        self._signer = node.keyring.signer()
        self.key_id, self.algorithm = self._signer.key_id, self._signer.algorithm
        self.away = False
        self.signed = 0
        self.before: Hook | None = None
        node.keyring.signer = lambda: self  # type: ignore[method-assign]

    async def sign(self, signing_input: bytes) -> bytes:
        if self.before is not None:
            await self.before()
        if self.away:
            raise SigningUnavailableError(retry_after=1.0)
        self.signed += 1
        return await self._signer.sign(signing_input)


async def a_node_with_a_module(**options: Any) -> tuple[Node, Module, Intercepted]:
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions, signing_may_fail=True, **options)
    return node, Module(node), sessions


@virtual_time
@pytest.mark.parametrize("kinds", [ACCESS_AND_REFRESH, ISSUABLE])
async def test_token_stays_valid_when_its_successor_could_not_be_signed(
    kinds: frozenset[TokenKind],
):
    node, module, _ = await a_node_with_a_module()
    tokens = await node.issue(kinds=kinds)
    for signatures in range(
        2 if TokenKind.ID in kinds else 1
    ):  # the module may become unavailable between two signatures
        module.signed = 0

        async def goes(signatures: int = signatures) -> None:
            module.away = module.signed >= signatures

        module.before = goes
        with pytest.raises(SigningUnavailableError):
            await node.refresh(tokens.refresh_token)
        node.clock.elapsed += 3600  # far beyond any grace period
    module.before, module.away = None, False
    again = await node.refresh(tokens.refresh_token)
    assert (await node.session(tokens.session_id)).generation == 1
    assert (await node.validate(again.access_token)).reason is None


@virtual_time
async def test_tokens_signed_first_are_withheld_if_the_session_was_revoked():
    for target, value in (
        (RevocationTarget.SESSION, None),
        (RevocationTarget.SUBJECT, "alice"),
        (RevocationTarget.CLIENT, "web"),
        (RevocationTarget.EVERYTHING, ""),
    ):
        for when in ("while it is signed", "just before it is accepted"):
            node, module, sessions = await a_node_with_a_module()
            tokens = await node.issue()

            async def revoke(node=node, target=target, value=value, session=tokens.session_id) -> None:
                await node.revoke(target=target, value=session if value is None else value)

            if when == "while it is signed":
                module.before = revoke
            else:
                sessions.before["rotate"] = revoke
            with pytest.raises(SessionRevokedError):
                await node.refresh(tokens.refresh_token)


@virtual_time
async def test_tokens_signed_first_are_revoked_exactly_with_their_session():
    node, module, _ = await a_node_with_a_module()
    tokens = await node.issue()

    async def others_are_revoked() -> None:
        await node.revoke(target=RevocationTarget.SUBJECT, value="bob")

    module.before = others_are_revoked
    again = await node.refresh(tokens.refresh_token)
    assert (await node.validate(again.access_token)).reason is None
    await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    assert (await node.validate(again.access_token)).reason is InvalidReason.REVOKED


@virtual_time
async def test_nothing_is_signed_for_a_token_that_is_not_accepted():
    node, module, sessions = await a_node_with_a_module()
    first = await node.issue(scopes=("read",))
    second = await node.refresh(first.refresh_token)
    module.signed = 0
    with pytest.raises(WrongClientError):
        await node.refresh(second.refresh_token, "app")
    with pytest.raises(ScopeExceededError):
        await node.refresh(second.refresh_token, scopes=("write",))
    node.clock.elapsed += 10
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(first.refresh_token)
    with pytest.raises(SessionRevokedError):
        await node.refresh(second.refresh_token)
    assert module.signed == 0
    assert node.audit.named("refresh_token.reused")
    sessions.calls.clear()
    third = await node.issue()
    await node.refresh(third.refresh_token)
    assert sessions.calls == ["create", "get", "rotate"]


@virtual_time
async def test_session_is_refreshed_until_its_absolute_end():
    node = await a_node(policy=Policy(refresh_token_ttl=1000, idle_timeout=100))
    tokens = await node.issue()
    for _ in range(10):
        node.clock.elapsed += 99
        tokens = await node.refresh(tokens.refresh_token)
        assert tokens.refresh_token_expire_time == min(node.clock.now() + 100, START + 1000)
    node.clock.elapsed = 999
    tokens = await node.refresh(tokens.refresh_token)
    node.clock.elapsed = 1000
    with pytest.raises(RefreshTokenExpiredError):
        await node.refresh(tokens.refresh_token)


@virtual_time
async def test_idle_session_is_refused():
    node = await a_node(policy=Policy(idle_timeout=100))
    tokens = await node.issue()
    node.clock.elapsed = 100
    with pytest.raises(SessionIdleError):
        await node.refresh(tokens.refresh_token)


@virtual_time
@pytest.mark.parametrize("end", ["idle", "grace"])
async def test_expiry_is_decided_in_whole_microseconds(end: str):
    # Stores round times to whole microseconds. With a finer time, the refresher would place a moment just before
    # the end before it, and the store after it.
    node = await a_node(policy=Policy(idle_timeout=100, grace_period=10))
    tokens = await node.issue()
    if end == "grace":
        await node.refresh(tokens.refresh_token)
    node.clock.elapsed = (100 if end == "idle" else 10) - 2.4e-7
    assert node.clock.now() < START + node.clock.elapsed + 1e-6
    with pytest.raises(SessionIdleError if end == "idle" else RefreshTokenReusedError):
        await node.refresh(tokens.refresh_token)


# --- Reuse -------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_reuse_revokes_the_family_at_once_and_is_reported():
    node = await a_node()
    bystander = await node.issue()
    first = await node.issue()
    second = await node.refresh(first.refresh_token)
    node.clock.elapsed += 10
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(first.refresh_token, client_context=Origin("192.0.2.66", "curl"))
    for token in (first.access_token, second.access_token, second.refresh_token):
        assert (await node.validate(token)).reason is InvalidReason.REVOKED
    with pytest.raises(SessionRevokedError):
        await node.refresh(second.refresh_token)
    row = await node.session(first.session_id)
    assert (row.revoke_time, row.revoke_reason) == (START + 10, RevocationReason.REFRESH_TOKEN_REUSED)
    (entry,) = await node.stores.log.read(0, 10)
    assert (entry.target, entry.value) == (RevocationTarget.SESSION, first.session_id)
    assert entry.reason is RevocationReason.REFRESH_TOKEN_REUSED
    assert node.published == [entry]
    assert (await node.validate(bystander.access_token)).reason is None
    (event,) = node.audit.named("refresh_token.reused")
    assert event["subject"] == "alice"
    assert event["session_id"] == first.session_id
    assert (event["presented_generation"], event["current_generation"]) == (0, 1)
    assert (event["ip_address"], event["response"]) == ("192.0.2.66", "session")


@virtual_time
@pytest.mark.parametrize("excess", [{"scopes": ("admin",)}, {"audience": ("elsewhere",)}], ids=str)
async def test_superseded_token_revokes_its_family_even_with_excessive_requests(
    excess: dict[str, Any],
):
    node = await a_node()
    first = await node.issue(scopes=("read",))
    second = await node.refresh(first.refresh_token)
    node.clock.elapsed += 10
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(first.refresh_token, **excess)
    assert (await node.validate(second.access_token)).reason is InvalidReason.REVOKED
    assert len(node.audit.named("refresh_token.reused")) == 1


@virtual_time
@pytest.mark.parametrize("back", [0, 1])
async def test_excessive_request_uses_up_no_token(back: int):
    node = await a_node()
    tokens = [await node.issue(scopes=("read",))]
    tokens.append(await node.refresh(tokens[0].refresh_token))
    presented = tokens[1 - back].refresh_token
    with pytest.raises(ScopeExceededError):
        await node.refresh(presented, scopes=("admin",))
    assert (await node.refresh(tokens[1].refresh_token)).session_id == tokens[0].session_id


@virtual_time
async def test_reuse_may_end_all_sessions_of_the_subject():
    node = await a_node(policy=Policy(reuse_response=ReuseResponse.SUBJECT))
    first = await node.issue("alice")
    others = [await node.issue("alice", "app"), await node.issue("bob")]
    await node.refresh(first.refresh_token)
    node.clock.elapsed += 10
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(first.refresh_token)
    assert (await node.validate(others[0].access_token)).reason is InvalidReason.REVOKED
    assert (await node.validate(others[0].refresh_token)).reason is InvalidReason.REVOKED
    assert (await node.validate(others[1].access_token)).reason is None
    fresh = await node.issue("alice")
    assert (await node.validate(fresh.access_token)).reason is None
    assert (await node.refresh(fresh.refresh_token)).session_id == fresh.session_id


@virtual_time
async def test_family_is_revoked_once():
    node = await a_node()
    first = await node.issue()
    await node.refresh(first.refresh_token)
    node.clock.elapsed += 10
    results = await asyncio.gather(
        *(node.refresh(first.refresh_token) for _ in range(5)), return_exceptions=True
    )
    assert {type(result) for result in results} <= {RefreshTokenReusedError, SessionRevokedError}
    assert (await node.stores.log.head()).sequence == 1


@virtual_time
async def test_family_revocation_is_reported_only_when_durable():
    stores = MemoryStores()
    log = Intercepted(stores.log)
    node = await a_node(stores=stores, log=log)
    first = await node.issue()
    await node.refresh(first.refresh_token)
    node.clock.elapsed += 10
    log.before["append"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.refresh(first.refresh_token)
    assert not node.audit.named("refresh_token.reused")
    log.before.clear()
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(first.refresh_token)


@virtual_time
async def test_retry_after_use_of_the_successor_is_reuse():
    node = await a_node()
    first = await node.issue()
    second = await node.refresh(first.refresh_token)
    await node.refresh(second.refresh_token)
    with pytest.raises(RefreshTokenReusedError):
        await node.refresh(first.refresh_token)  # well within its grace period


@virtual_time
async def test_retries_beyond_the_limit_are_refused_and_revoke_nothing():
    node = await a_node(policy=Policy(max_retries=2))
    first = await node.issue()
    second = await node.refresh(first.refresh_token)
    for _ in range(2):
        assert (await node.refresh(first.refresh_token)).refresh_token == second.refresh_token
    waits = []
    for _ in range(3):
        with pytest.raises(TooManyRetriesError) as error:
            await node.refresh(first.refresh_token)
        assert error.value.retry_after
        waits.append(error.value.retry_after)
    node.clock.elapsed += waits[-1]  # the announced delay; by then the grace period is over
    with pytest.raises(TooManyRetriesError):
        await node.refresh(first.refresh_token)
    third = await node.refresh(second.refresh_token)
    assert (await node.refresh(second.refresh_token)).refresh_token == third.refresh_token


@virtual_time
async def test_token_of_a_lost_later_generation_is_invalid_and_revokes_nothing():
    node = await a_node()
    tokens = await node.issue()
    restored = node.stores.sessions._state.sessions.copy()
    later = await node.refresh((await node.refresh(tokens.refresh_token)).refresh_token)
    node.stores.sessions._state.sessions = restored
    with pytest.raises(RefreshTokenInvalidError):
        await node.refresh(later.refresh_token)
    assert (await node.refresh(tokens.refresh_token)).session_id == tokens.session_id


@virtual_time
async def test_an_authentic_token_with_another_secret_is_invalid_and_revokes_nothing():
    node = await a_node()
    tokens = await node.issue()
    keys = node.keyring.mac_keys
    real = parse_opaque_token(tokens.refresh_token, keys)
    for generation in (0, 1):
        fake = OpaqueToken(real.kind, real.key_version, real.session_id, generation, Secret(b"x" * 32))
        with pytest.raises(RefreshTokenInvalidError):
            await node.refresh(fake.format(keys))
    second = await node.refresh(tokens.refresh_token)
    fake = OpaqueToken(real.kind, real.key_version, real.session_id, 0, Secret(b"x" * 32))
    with pytest.raises(RefreshTokenInvalidError):
        await node.refresh(fake.format(keys))
    assert (await node.refresh(second.refresh_token)).session_id == tokens.session_id


@virtual_time
async def test_last_generation_has_no_successor():
    node = await a_node()
    tokens = await node.issue()
    real = parse_opaque_token(tokens.refresh_token, node.keyring.mac_keys)
    last = OpaqueToken(real.kind, real.key_version, real.session_id, MAX_GENERATION, Secret(b"x" * 32))
    with pytest.raises(RefreshTokenInvalidError):
        await node.refresh(last.format(node.keyring.mac_keys))
    (generation,) = struct.unpack(">I", unpad(last.format(node.keyring.mac_keys)[3:])[19:23])
    assert generation == MAX_GENERATION


# --- Races -------------------------------------------------------------------------------------------------------------------


class OneAfterTheOther:
    """Two nodes whose statements interleave at random."""

    def __init__(self, seed: int, policy: Policy, *, signing_may_fail: bool = False) -> None:
        self.seed = seed
        self.policy = policy
        self.signing_may_fail = signing_may_fail

    async def run(self, callers: int) -> tuple[Node, IssuedTokens, list[Any]]:
        import random

        luck = random.Random(self.seed)
        clock = LoopClock()
        stores = MemoryStores(clock)
        sessions = Intercepted(stores.sessions)

        async def turns() -> None:
            for _ in range(luck.randrange(4)):
                await asyncio.sleep(0)

        for name in ("rotate", "retry", "get", "use"):
            sessions.before[name] = sessions.after[name] = turns
        nodes = [
            await Node(
                clock,
                stores=stores,
                sessions=sessions,
                policy=self.policy,
                node_id=f"node-{number}",
                seed=number,
                signing_may_fail=self.signing_may_fail,
            ).start()
            for number in range(2)
        ]
        tokens = await nodes[0].issue()
        calls = (nodes[number % 2].refresh(tokens.refresh_token) for number in range(callers))
        return nodes[0], tokens, await asyncio.gather(*calls, return_exceptions=True)


@virtual_time
@pytest.mark.parametrize("signing_may_fail", [False, True])
@pytest.mark.parametrize("seed", range(8))
async def test_64_concurrent_refreshes_get_one_successor(seed: int, signing_may_fail: bool):  # noqa: FBT001
    race = OneAfterTheOther(seed, Policy(), signing_may_fail=signing_may_fail)
    _, tokens, results = await race.run(64)
    assert {type(result) for result in results} == {IssuedTokens}
    assert len({result.refresh_token for result in results} - {tokens.refresh_token}) == 1


@virtual_time
@pytest.mark.parametrize("seed", range(4))
async def test_with_a_cap_on_retries_the_others_are_told_to_wait(seed: int):
    node, tokens, results = await OneAfterTheOther(seed, Policy(max_retries=5)).run(64)
    assert Counter(map(type, results)) == {IssuedTokens: 6, TooManyRetriesError: 58}
    assert (await node.session(tokens.session_id)).revoke_time is None


@virtual_time
@pytest.mark.parametrize("signing_may_fail", [False, True])
@pytest.mark.parametrize("seed", range(4))
async def test_race_without_a_grace_period_is_reuse(seed: int, signing_may_fail: bool):  # noqa: FBT001
    race = OneAfterTheOther(seed, Policy(grace_period=0), signing_may_fail=signing_may_fail)
    _, _, results = await race.run(16)
    kinds = Counter(map(type, results))
    assert kinds[IssuedTokens] == 1
    assert kinds[RefreshTokenReusedError] >= 1
    assert set(kinds) <= {IssuedTokens, RefreshTokenReusedError, SessionRevokedError}


@virtual_time
@pytest.mark.parametrize("seed", range(4))
async def test_without_rotation_all_keep_the_token(seed: int):
    _, tokens, results = await OneAfterTheOther(seed, Policy(rotate=False)).run(16)
    assert {result.refresh_token for result in results} == {tokens.refresh_token}


@virtual_time
async def test_refresh_gives_up_on_a_row_that_keeps_changing():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    tokens = await node.issue()
    session = await node.session(tokens.session_id)

    class Contrary:
        """A store that refuses every statement and shows a valid row."""

        async def rotate(self, command: Any) -> None:
            return None

        retry = rotate

        async def get(self, session_id: Any) -> Any:
            return session

    sessions.target = Contrary()
    with pytest.raises(OverloadedError) as error:
        await node.refresh(tokens.refresh_token)
    assert error.value.retry_after
    assert sessions.calls.count("rotate") < 20


# --- Requested scopes and audience --------------------------------------------------------------------------------------------------------


@virtual_time
async def test_scopes_and_audience_may_only_narrow_and_only_for_this_answer():
    node = await a_node()
    tokens = await node.issue(scopes=("read", "write"), audience=("api", "files"))
    narrow = await node.refresh(tokens.refresh_token, scopes=("write",), audience=("files",))
    claims = claims_of(narrow.access_token)
    assert (claims["scope"], claims["aud"], narrow.scopes) == ("write", "files", ("write",))
    with pytest.raises(ScopeExceededError) as error:
        await node.refresh(narrow.refresh_token, scopes=("write", "admin"))
    assert error.value.metadata == {"field": "scopes"}
    with pytest.raises(ScopeExceededError) as error:
        await node.refresh(narrow.refresh_token, audience=("else",))
    assert error.value.metadata == {"field": "audience"}
    whole = await node.refresh(narrow.refresh_token)
    assert claims_of(whole.access_token)["scope"] == "read write"
    assert claims_of(whole.access_token)["aud"] == ["api", "files"]


@virtual_time
async def test_another_client_learns_nothing_of_the_scopes():
    node = await a_node()
    tokens = await node.issue(scopes=("read",))
    with pytest.raises(WrongClientError):
        await node.refresh(tokens.refresh_token, "app", scopes=("admin",))


@virtual_time
async def test_an_id_token_comes_with_each_refresh_if_it_came_with_the_session():
    node = await a_node()
    tokens = await node.issue(kinds=frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.ID}), nonce="n")
    refreshed = await node.refresh(tokens.refresh_token)
    claims = claims_of(refreshed.id_token)
    assert (claims["sub"], claims["sid"], "nonce" in claims) == ("alice", tokens.session_id, False)
    assert claims["at_hash"] != claims_of(tokens.id_token)["at_hash"]


@virtual_time
async def test_the_access_token_has_the_head_of_the_log_at_its_own_time():
    node = await a_node()
    tokens = await node.issue()
    await node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    refreshed = await node.refresh(tokens.refresh_token)
    assert claims_of(tokens.access_token)["rev"] == 0
    assert claims_of(refreshed.access_token)["rev"] == 1


@virtual_time
@pytest.mark.parametrize(
    ("field", "bad"),
    [
        ("refresh_token", {"refresh_token": ""}),
        ("client_id", {"client_id": ""}),
        ("client_id", {"client_id": "c" * (limits.MAX_CLIENT_ID + 1)}),
        ("device_id", {"device_id": "d" * (limits.MAX_DEVICE_ID + 1)}),
        ("scopes[0]", {"scopes": ("a b",)}),
        ("scopes", {"scopes": tuple(f"s{n}" for n in range(limits.MAX_SCOPES + 1))}),
        ("audience", {"audience": tuple(f"a{n}" for n in range(limits.MAX_AUDIENCES + 1))}),
        ("client_context.ip_address", {"client_context": Origin("1" * (limits.MAX_IP_ADDRESS + 1))}),
        (
            "client_context.user_agent",
            {"client_context": Origin("", "1" * (limits.MAX_USER_AGENT + 1))},
        ),
    ],
)
async def test_bad_request_names_its_field_and_uses_up_no_token(field: str, bad: dict[str, Any]):
    node = await a_node()
    tokens = await node.issue()
    with pytest.raises(InvalidRequestError) as error:
        await node.refresh(**{"refresh_token": tokens.refresh_token, **bad})
    assert [violation.field for violation in error.value.violations] == [field]
    assert (await node.session(tokens.session_id)).generation == 0


@virtual_time
@pytest.mark.parametrize("policy", [Policy(), Policy(rotate=False)], ids=["rotated", "kept"])
async def test_session_keeps_the_origin_of_its_creation_and_of_its_last_refresh(policy: Policy):
    node = await a_node(policy=policy)
    home, train = Origin("192.0.2.1", "Firefox"), Origin("192.0.2.2", "Chromium")
    tokens = await node.issue(client_context=home)

    async def origins() -> tuple[Origin, Origin]:
        details = await node.sessions.get(Caller.system(), tokens.session_id)
        return details.created_from, details.last_used_from

    assert await origins() == (home, home)
    tokens = await node.refresh(tokens.refresh_token, client_context=train)
    assert await origins() == (home, train)
    await node.refresh(tokens.refresh_token)
    assert await origins() == (home, train)


@virtual_time
async def test_each_refresh_is_audited():
    node = await a_node()
    tokens = await node.issue()
    refreshed = await node.refresh(tokens.refresh_token, client_context=Origin("192.0.2.1", "Firefox"))
    (event,) = node.audit.named("token.refreshed")
    assert event == {
        "subject": "alice",
        "client_id": "web",
        "session_id": tokens.session_id,
        "token_id": refreshed.token_id,
        "generation": 1,
        "classification": "internal",
        "ip_address": "192.0.2.1",
        "user_agent": "Firefox",
        "actor": "system:system",
        "outcome": "success",
    }
