"""An invalid token gets the reason of the first failing step, on each validation."""

from __future__ import annotations

import asyncio
import hmac
import json
from base64 import urlsafe_b64encode
from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.jwts import claims_of, header_of
from tests.unit.core.node import ISSUER, Intercepted, Node, raising
from tests.unit.core.virtual_time import START, ManualClock, cancelled, settle, virtual_time
from token_service.core.access.caller import Caller
from token_service.core.issuing.commands import ISSUABLE
from token_service.core.policies.policy import Policy
from token_service.core.validation.introspector import OpaqueClaims, TokenQuery
from token_service.errors import InvalidReason, ReplicaStaleError, StoreUnavailableError
from token_service.tokens.claims import TokenKind, VerifiedClaims
from token_service.tokens.opaque_token import MacKeys, OpaqueToken, parse_opaque_token
from token_service.tokens.revocation import Cursor, RevocationTarget
from token_service.tokens.secret import Secret
from token_service.tokens.verified_cache import MAX_AGE
from token_service.tokens.verifier import MAX_TOKEN_BYTES

ALL = ISSUABLE


async def a_node(**options: Any) -> Node[ManualClock]:
    return await Node(ManualClock(), **{"max_staleness": 1e12, **options}).start()


def encode(value: object) -> str:
    return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


async def signed(node: Node, header: dict[str, Any] | None = None, **claims: Any) -> str:
    """Return a JWT with the given claims, signed with the key of the node. None omits a claim."""
    stored = (await node.stores.keys.load()).signing_keys[0]
    secret = stored.private_key[32:]
    head = {"alg": "HS256", "typ": "at+jwt", "kid": stored.key_id} | (header or {})
    now = int(node.clock.now())
    body = {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "api",
        "exp": now + 600,
        "iat": now,
        "nbf": now,
        "jti": "t-1",
        "client_id": "web",
        "scope": "read",
        "rev": 0,
    } | claims
    signing_input = f"{encode(head)}.{encode({name: v for name, v in body.items() if v is not None})}"
    signature = hmac.digest(secret, signing_input.encode(), "sha256")
    return f"{signing_input}.{urlsafe_b64encode(signature).rstrip(b'=').decode()}"


# --- Good tokens --------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_every_kind_of_token_is_recognized():
    node = await a_node()
    tokens = await node.issue(kinds=ALL, scopes=("read", "write"), audience=("api",), device_id="phone")
    for kind, text in {
        TokenKind.ACCESS: tokens.access_token,
        TokenKind.ID: tokens.id_token,
        TokenKind.REFRESH: tokens.refresh_token,
        TokenKind.SESSION: tokens.session_token,
    }.items():
        for hint in (None, kind):
            answer = await node.validate(text, kind=hint)
            assert answer.reason is None
            assert isinstance(answer.claims, VerifiedClaims | OpaqueClaims)
            assert answer.claims.kind is kind
            assert answer.cursor == Cursor(node.replica.epoch, 0)
        for other in ALL - {kind}:
            answer = await node.validate(text, kind=other)
            assert (answer.reason, answer.claims) == (InvalidReason.WRONG_TYPE, None)


@virtual_time
async def test_claims_equal_the_signed_claims():
    node = await a_node()
    tokens = await node.issue(scopes=("read",), audience=("api",), custom_claims={"tenant": "t"})
    claims = (await node.validate(tokens.access_token, audience="api", required_scopes=("read",))).claims
    assert isinstance(claims, VerifiedClaims)
    assert claims.payload == claims_of(tokens.access_token)
    assert claims.custom_claims == {"tenant": "t"}
    answer = await node.validate(tokens.refresh_token, required_scopes=["read"])
    assert isinstance(answer.claims, OpaqueClaims)
    assert str(answer.claims.session.id) == tokens.session_id


# --- The order of the reasons -----------------------------------------------------------------------------------------------------

# Each step breaks one more property, from the last checked to the first. The answer names the first failing check.
STEPS: list[tuple[InvalidReason, str]] = [
    (InvalidReason.INSUFFICIENT_SCOPE, "scope"),
    (InvalidReason.REVOKED, "revocation"),
    (InvalidReason.WRONG_TYPE, "kind"),
    (InvalidReason.WRONG_AUDIENCE, "audience"),
    (InvalidReason.EXPIRED, "time"),
    (InvalidReason.WRONG_ISSUER, "issuer"),
    (InvalidReason.MALFORMED, "structure"),
    (InvalidReason.BAD_SIGNATURE, "signature"),
    (InvalidReason.UNKNOWN_KEY, "key"),
]


@virtual_time
@pytest.mark.parametrize("broken", range(len(STEPS)), ids=[step for _, step in STEPS])
async def test_the_first_step_that_fails_names_the_reason(broken: int):
    node = await a_node()
    wrong = {step for _, step in STEPS[: broken + 1]}
    if "revocation" in wrong:
        await node.revoke(target=RevocationTarget.TOKEN_ID, value="t-1")
    token = await signed(
        node,
        {"kid": "nobodys"} if "key" in wrong else None,
        exp=int(START) if "time" in wrong else int(START) + 600,
        iss="https://else.example" if "issuer" in wrong else ISSUER,
        sub=5 if "structure" in wrong else "alice",
    )
    if "signature" in wrong:
        token = token[:-2] + ("AA" if not token.endswith("AA") else "BA")
    query = {
        "required_scopes": ["read", "admin"] if "scope" in wrong else ["read"],
        "kind": TokenKind.ID if "kind" in wrong else TokenKind.ACCESS,
        "audience": "else" if "audience" in wrong else "api",
    }
    answer = await node.validate(token, **query)
    assert answer.reason is STEPS[broken][0]
    assert (answer.claims, answer.entry) == (None, None)
    again = await node.validate(token, **query)  # from the cache, if it has an entry
    assert again.reason is STEPS[broken][0]


@virtual_time
@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": int(START) + 1}, None),
        ({"exp": int(START)}, InvalidReason.EXPIRED),
        ({"nbf": int(START)}, None),
        ({"nbf": int(START) + 6}, InvalidReason.NOT_YET_VALID),
        ({"iat": int(START) + 6}, InvalidReason.NOT_YET_VALID),
        ({"exp": 1e400}, InvalidReason.MALFORMED),
        ({"exp": str(int(START) + 600)}, InvalidReason.MALFORMED),
        ({"exp": None}, InvalidReason.MALFORMED),
        ({"aud": None}, InvalidReason.MALFORMED),
        ({"jti": None}, InvalidReason.MALFORMED),
        ({"client_id": None}, InvalidReason.MALFORMED),
        ({"rev": -1}, InvalidReason.MALFORMED),
        ({"scope": ["read"]}, InvalidReason.MALFORMED),
        ({"iss": None}, InvalidReason.MALFORMED),
    ],
    ids=str,
)
async def test_times_and_structure_at_their_edges(claims: dict[str, Any], reason: InvalidReason | None):
    node = await a_node()
    assert (await node.validate(await signed(node, **claims))).reason is reason


@virtual_time
@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", InvalidReason.MALFORMED),
        ("a", InvalidReason.MALFORMED),
        ("..", InvalidReason.MALFORMED),
        ("é.é.é", InvalidReason.MALFORMED),
        ("x" * MAX_TOKEN_BYTES, InvalidReason.MALFORMED),
        ("x" * (MAX_TOKEN_BYTES + 1), InvalidReason.TOO_LARGE),
        ("rt_" + "x" * MAX_TOKEN_BYTES, InvalidReason.TOO_LARGE),
        ("rt_", InvalidReason.MALFORMED),
        ("rt_" + "=" * 95, InvalidReason.MALFORMED),
        ("st_" + "A" * 95, InvalidReason.BAD_SIGNATURE),
        ("RT_" + "A" * 95, InvalidReason.MALFORMED),
    ],
    ids=lambda value: str(value)[:12],
)
async def test_malformed_token_is_reported(text: str, reason: InvalidReason):
    node = await a_node()
    assert (await node.validate(text)).reason is reason


# --- Time and cache ----------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_a_signature_is_verified_once_and_everything_else_each_time():
    node = await a_node()
    token = (await node.issue(access_token_ttl=600)).access_token
    verified: list[str] = []
    verify = node.verifier.verify

    class Counting:
        generation = 0

        def verify(self, text: str) -> VerifiedClaims:
            verified.append(text)
            return verify(text)

    node.introspector._verifier = Counting()  # type: ignore[assignment]
    for _ in range(3):
        assert (await node.validate(token)).reason is None
    assert len(verified) == 1
    assert (await node.validate(token, audience="else")).reason is InvalidReason.WRONG_AUDIENCE
    assert (await node.validate(token, required_scopes=["x"])).reason is InvalidReason.INSUFFICIENT_SCOPE
    node.clock.elapsed = MAX_AGE
    assert (await node.validate(token)).reason is None
    assert len(verified) == 2
    node.clock.elapsed = 599
    assert (await node.validate(token)).reason is None
    node.clock.elapsed = 600
    assert (await node.validate(token)).reason is InvalidReason.EXPIRED


@virtual_time
async def test_a_clock_that_goes_back_makes_a_cached_token_not_valid_yet():
    node = await a_node()
    token = (await node.issue()).access_token
    assert (await node.validate(token)).reason is None
    node.clock.elapsed = -5
    assert (await node.validate(token)).reason is None
    node.clock.elapsed = -6
    assert (await node.validate(token)).reason is InvalidReason.NOT_YET_VALID


@virtual_time
@pytest.mark.parametrize("target", ["jti", "sid", "sub", "client_id", "everything"])
async def test_a_revocation_is_looked_at_on_every_use(target: str):
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    for text in (tokens.access_token, tokens.id_token):
        assert (await node.validate(text)).reason is None
    claims = claims_of(tokens.access_token)
    kind = {
        "jti": RevocationTarget.TOKEN_ID,
        "sid": RevocationTarget.SESSION,
        "sub": RevocationTarget.SUBJECT,
        "client_id": RevocationTarget.CLIENT,
        "everything": RevocationTarget.EVERYTHING,
    }[target]
    await node.revoke(target=RevocationTarget.SUBJECT, value="somebody else")
    assert (await node.validate(tokens.access_token)).reason is None
    await node.revoke(target=kind, value=claims.get(target, ""))
    answer = await node.validate(tokens.access_token)
    assert (answer.reason, answer.claims) == (InvalidReason.REVOKED, None)
    assert answer.cursor.sequence == 2
    one_of_two = InvalidReason.REVOKED if target != "jti" else None
    assert (await node.validate(tokens.id_token)).reason is one_of_two


@virtual_time
async def test_a_token_of_a_revoked_key_is_refused_at_once():
    node = await a_node()
    token = (await node.issue()).access_token
    assert (await node.validate(token)).reason is None
    await node.revoke(target=RevocationTarget.KEY, value=header_of(token)["kid"])
    # By the log at once, and by the key set once it is loaded.
    assert (await node.validate(token)).reason in {InvalidReason.REVOKED, InvalidReason.UNKNOWN_KEY}
    await node.tailer._look()
    assert (await node.validate(token)).reason is InvalidReason.UNKNOWN_KEY
    assert (await node.validate((await node.issue()).access_token)).reason is None


@virtual_time
async def test_key_change_invalidates_cached_verifications():
    node = await a_node()
    token = (await node.issue()).access_token
    answer = await node.validate(token)
    assert answer.entry is not None
    generation = node.introspector.generation
    assert node.introspector.still_active(Caller.system(), answer.entry, generation, START)
    node.verifier.replace_key_set(ISSUER, node.keyring.key_set)
    assert not node.introspector.still_active(Caller.system(), answer.entry, generation, START)
    again = await node.validate(token)
    assert again.entry is not answer.entry
    assert again.reason is None


@virtual_time
async def test_cached_answer_expires_when_the_result_may_change():
    node = await a_node()
    token = (await node.issue(access_token_ttl=60)).access_token
    entry = (await node.validate(token)).entry
    assert entry is not None
    generation = node.introspector.generation

    def holds() -> bool:
        return node.introspector.still_active(Caller.system(), entry, generation, node.clock.now())

    assert holds()
    node.clock.elapsed = 59.9
    assert holds()
    node.clock.elapsed = 60
    assert not holds()
    node.clock.elapsed = -1
    assert not holds()
    node.clock.elapsed = 0
    await node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    assert not holds()
    assert (await node.validate(token)).entry is entry
    assert holds()


@virtual_time
async def test_the_cache_is_bounded():
    node = await a_node()
    tokens = [(await node.issue(kinds=frozenset({TokenKind.ACCESS}))).access_token for _ in range(60)]
    node.introspector._cache._capacity = 20
    for token in tokens:
        assert (await node.validate(token)).reason is None
    assert len(node.introspector._cache) <= 40


# --- Freshness ---------------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_stale_replica_does_not_judge_a_jwt():
    node = await a_node(max_staleness=5)
    tokens = await node.issue(kinds=ALL)
    entry = (await node.validate(tokens.access_token)).entry
    assert entry is not None
    node.clock.elapsed = 5.1
    for text in (tokens.access_token, "nonsense"):
        with pytest.raises(ReplicaStaleError):
            await node.validate(text)
    with pytest.raises(ReplicaStaleError):
        node.introspector.still_active(Caller.system(), entry, node.introspector.generation, node.clock.now())
    # Queries to the database need no replica.
    assert (await node.validate(tokens.refresh_token)).reason is None
    assert (await node.validate(tokens.access_token, strong=True)).reason is None


@virtual_time
async def test_strong_validation_sees_revocations_of_other_nodes():
    clock = ManualClock()
    stores = MemoryStores(clock)
    one = await Node(clock, stores=stores, max_staleness=1e12).start()
    two = await Node(clock, stores=stores, node_id="node-2", max_staleness=1e12, poll_interval=60).start()
    token = (await one.issue()).access_token
    running = asyncio.create_task(two.tailer.run())
    await settle()
    await one.revoke(token=token)
    assert (await two.validate(token)).reason is None
    assert (await two.validate(token, strong=True)).reason is InvalidReason.REVOKED
    await cancelled(running)


@virtual_time
async def test_a_strong_answer_is_as_of_the_time_it_has_caught_up(monkeypatch: pytest.MonkeyPatch):
    node = await a_node()
    token = (await node.issue(access_token_ttl=60)).access_token
    catch_up = node.tailer.catch_up

    async def slowly() -> None:
        await catch_up()
        node.clock.elapsed = 60

    monkeypatch.setattr(node.tailer, "catch_up", slowly)
    assert (await node.validate(token)).reason is None
    assert (await node.validate(token, strong=True)).reason is InvalidReason.EXPIRED


@virtual_time
async def test_a_batch_with_one_strong_query_catches_up_once_for_all_of_it(monkeypatch: pytest.MonkeyPatch):
    node = await a_node()
    tokens = [(await node.issue()).access_token for _ in range(3)]
    caught_up = []

    async def revoked_elsewhere() -> None:
        caught_up.append(True)
        await node.revoke(target=RevocationTarget.EVERYTHING)

    monkeypatch.setattr(node.tailer, "catch_up", revoked_elsewhere)

    async def judged(strong: Sequence[bool]) -> list[InvalidReason | None]:
        queries = [TokenQuery(token, strong=each) for token, each in zip(tokens, strong, strict=True)]
        answers = node.introspector.validate_batch(Caller.system(), len(queries), queries)
        return [answer.reason async for answer in answers]

    assert await judged([False, False, False]) == [None] * 3
    assert not caught_up
    assert await judged([False, True, True]) == [InvalidReason.REVOKED] * 3
    assert len(caught_up) == 1


# --- Opaque tokens -----------------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize("kind", [TokenKind.REFRESH, TokenKind.SESSION])
async def test_opaque_token_is_valid_while_its_session_is(kind: TokenKind):
    node = await a_node(policy=Policy(idle_timeout=100, refresh_token_ttl=1000))

    async def a_token() -> str:
        tokens = await node.issue(kinds=frozenset({kind}))
        return tokens.refresh_token or tokens.session_token

    token = await a_token()
    node.clock.elapsed = 99.9
    assert (await node.validate(token, kind=kind)).reason is None
    token = await a_token()
    await node.revoke(token=token)
    assert (await node.validate(token)).reason is InvalidReason.REVOKED
    token = await a_token()
    node.clock.elapsed += 100
    assert (await node.validate(token)).reason is InvalidReason.EXPIRED
    token = await a_token()
    node.stores.sessions._state.sessions.clear()
    assert (await node.validate(token)).reason is InvalidReason.UNKNOWN_SESSION
    token = await a_token()
    assert (await node.validate(token, required_scopes=["read"])).reason is InvalidReason.INSUFFICIENT_SCOPE


@virtual_time
@pytest.mark.parametrize("kind", [TokenKind.REFRESH, TokenKind.SESSION])
async def test_secret_of_another_session_is_a_bad_signature(kind: TokenKind):
    node = await a_node()
    tokens = await node.issue(kinds=ALL)
    keys = node.keyring.mac_keys
    real = parse_opaque_token(tokens.refresh_token, keys)
    fake = OpaqueToken(kind, real.key_version, real.session_id, 0, Secret(b"x" * 32))
    assert (await node.validate(fake.format(keys))).reason is InvalidReason.BAD_SIGNATURE
    other_keys = MacKeys({1: Secret(b"k" * 32)}, 1)
    forged = OpaqueToken(kind, 1, real.session_id, 0, real.secret)
    assert (await node.validate(forged.format(other_keys))).reason is InvalidReason.BAD_SIGNATURE


@virtual_time
async def test_validating_a_refresh_token_does_not_use_it_up():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    tokens = await node.issue()
    sessions.calls.clear()
    for _ in range(3):
        assert (await node.validate(tokens.refresh_token)).reason is None
    assert set(sessions.calls) == {"get"}


@virtual_time
async def test_a_session_slides_while_it_is_used_but_not_beyond_its_end():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(
        stores=stores, sessions=sessions, policy=Policy(idle_timeout=100, refresh_token_ttl=250)
    )
    token = (await node.issue(kinds=frozenset({TokenKind.SESSION}))).session_token
    ends: list[tuple[float, float]] = []
    while True:
        node.clock.elapsed += 90 if node.clock.elapsed < 200 else 10
        answer = await node.validate(token)
        if answer.reason is not None:
            break
        assert isinstance(answer.claims, OpaqueClaims)
        ends.append((node.clock.elapsed, answer.claims.session.idle_expire_time - START))
    assert ends == [(90, 190), (180, 250)]
    assert (node.clock.elapsed, answer.reason) == (270, InvalidReason.EXPIRED)


@virtual_time
async def test_most_uses_of_a_session_write_nothing():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions, policy=Policy(idle_timeout=100))
    token = (await node.issue(kinds=frozenset({TokenKind.SESSION}))).session_token
    for _ in range(100):
        node.clock.elapsed += 1
        assert (await node.validate(token)).reason is None
    assert sessions.calls.count("use") == 20


@virtual_time
async def test_a_session_that_ends_while_it_is_used_is_not_active():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions, policy=Policy(idle_timeout=100))
    token = (await node.issue(kinds=frozenset({TokenKind.SESSION}))).session_token

    async def revoke() -> None:
        await node.revoke(token=token)

    node.clock.elapsed = 50
    sessions.before["use"] = revoke
    assert (await node.validate(token)).reason is InvalidReason.REVOKED


@virtual_time
async def test_opaque_token_cannot_be_judged_without_the_store():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    tokens = await node.issue()
    sessions.before["get"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.validate(tokens.refresh_token)
    assert (await node.validate(tokens.access_token)).reason is None


def test_repr_of_a_query_shows_no_token():
    assert "rt_secret" not in repr(TokenQuery("rt_secret"))
