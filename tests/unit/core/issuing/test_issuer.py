"""Issued tokens and their lifetimes, refused requests, and answers to repeated requests."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import json
from dataclasses import replace
from typing import Any
from uuid import UUID

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from tests.support.memory_stores import MemoryStores
from tests.unit.core.jwts import claims_of, header_of, unpad
from tests.unit.core.node import ISSUER, Intercepted, Node, raising
from tests.unit.core.virtual_time import START, ManualClock, virtual_time
from token_service.core import limits
from token_service.core.access.caller import Caller
from token_service.core.access.proved_keys import ProvedKeys
from token_service.core.events.event import Origin
from token_service.core.issuing.commands import ISSUABLE
from token_service.core.policies.policy import Policy, PolicyBook, parse_policy_book
from token_service.errors import (
    BindingRequiredError,
    CustomClaimsTooLargeError,
    InvalidRequestError,
    RequestIdReusedError,
    ReservedClaimError,
    ServiceError,
    SigningUnavailableError,
    StoreUnavailableError,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import RESERVED_CLAIMS, AuthContext, Confirmation, TokenKind, _usual
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.verifier import MAX_TOKEN_BYTES

ACCESS, REFRESH, ID, SESSION = TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.ID, TokenKind.SESSION
THUMBPRINT = "A" * 42 + "8"


async def a_node(**options: Any) -> Node:
    return await Node(ManualClock(), max_staleness=1e12, **options).start()


def violations(error: InvalidRequestError) -> set[str]:
    return {violation.field for violation in error.violations}


# --- Access tokens (RFC 9068) ---------------------------------------------------------------------------------------------


@virtual_time
async def test_access_token_has_the_claims_of_rfc_9068():
    node = await a_node(policy=Policy(access_token_ttl=900))
    await node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    tokens = await node.issue(
        audience=("api",),
        scopes=("read", "write"),
        auth_context=AuthContext("urn:acr:2", ("pwd", "otp"), 1_700_000_000),
        confirmation=Confirmation(jkt=THUMBPRINT),
        custom_claims={"tenant": "t-1", "roles": ["admin", {"on": None}]},
    )
    assert header_of(tokens.access_token) == {
        "alg": "HS256",
        "typ": "at+jwt",
        "kid": node.keyring.signer().key_id,
    }
    claims = claims_of(tokens.access_token)
    assert claims.pop("jti") == tokens.token_id
    assert len(unpad(tokens.token_id)) == 16
    assert claims == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "api",
        "client_id": "web",
        "exp": int(START) + 900,
        "iat": int(START),
        "nbf": int(START),
        "scope": "read write",
        "sid": tokens.session_id,
        "rev": 1,
        "auth_ctx": {"acr": "urn:acr:2", "amr": ["pwd", "otp"], "auth_time": 1_700_000_000},
        "acr": "urn:acr:2",
        "auth_time": 1_700_000_000,
        "cnf": {"jkt": THUMBPRINT},
        "tenant": "t-1",
        "roles": ["admin", {"on": None}],
    }
    assert tokens.access_token_expire_time == claims["exp"]
    assert (tokens.token_type, tokens.scopes) == ("DPoP", ("read", "write"))
    assert UUID(tokens.session_id).version == 4


@virtual_time
@pytest.mark.parametrize(
    "custom", [{}, {"tenant": "t-1", "roles": ["admin", {"on": None}]}], ids=["", "custom"]
)
async def test_access_token_claims_have_the_fastest_order(custom: dict[str, Any]):
    node = await a_node()
    tokens = await node.issue(
        kinds=frozenset({ACCESS, REFRESH}),
        audience=("api", "files"),
        scopes=("read", "write"),
        auth_context=AuthContext("urn:acr:2", ("pwd", "otp"), 1_700_000_000),
        confirmation=Confirmation(jkt=THUMBPRINT),
        custom_claims=custom,
    )
    assert _usual(unpad(tokens.access_token.split(".")[1])) is not None


@virtual_time
async def test_a_claim_without_a_value_is_left_out():
    node = await a_node()
    tokens = await node.issue(kinds=frozenset({ACCESS}), confirmation=Confirmation())
    claims = claims_of(tokens.access_token)
    assert set(claims) == {"iss", "sub", "aud", "client_id", "exp", "iat", "nbf", "jti", "rev"}
    assert claims["aud"] == ISSUER
    assert (tokens.token_type, tokens.session_id, tokens.refresh_token) == ("Bearer", "", "")


@virtual_time
async def test_certificate_binding_follows_rfc_8705():
    node = await a_node()
    tokens = await node.issue(confirmation=Confirmation(x5t_s256=THUMBPRINT))
    assert claims_of(tokens.access_token)["cnf"] == {"x5t#S256": THUMBPRINT}
    assert tokens.token_type == "Bearer"


@virtual_time
async def test_several_audiences_are_a_list_and_the_policy_has_the_default():
    node = await a_node(policy=Policy(default_audience=("one", "two")))
    assert claims_of((await node.issue()).access_token)["aud"] == ["one", "two"]
    assert claims_of((await node.issue(audience=("three",))).access_token)["aud"] == "three"


@virtual_time
async def test_signature_verifies_with_the_key_of_the_header():
    node = await a_node()
    token = (await node.issue()).access_token
    signing_input, _, signature = token.rpartition(".")
    stored = (await node.stores.keys.load()).signing_keys[0]
    secret = stored.private_key[32:]
    assert hmac.digest(secret, signing_input.encode(), "sha256") == unpad(signature)


@virtual_time
async def test_es256_signs_with_r_and_s():
    node = await a_node(algorithm=Algorithm.ES256)
    token = (await node.issue()).access_token
    assert header_of(token)["alg"] == "ES256"
    signing_input, _, signature = token.rpartition(".")
    raw = unpad(signature)
    assert len(raw) == 64
    stored = (await node.stores.keys.load()).signing_keys[0]
    from cryptography.hazmat.primitives.serialization import load_der_public_key

    public = load_der_public_key(stored.public_key)
    assert isinstance(public, EllipticCurvePublicKey)
    der = encode_dss_signature(int.from_bytes(raw[:32]), int.from_bytes(raw[32:]))
    public.verify(der, signing_input.encode(), ECDSA(SHA256()))
    with pytest.raises(InvalidSignature):
        public.verify(der, signing_input.encode() + b"x", ECDSA(SHA256()))


@virtual_time
async def test_no_two_tokens_have_the_same_id():
    node = await a_node()
    issued = [await node.issue(kinds=frozenset({ACCESS, ID})) for _ in range(50)]
    ids = [claims_of(token)["jti"] for t in issued for token in (t.access_token, t.id_token)]
    assert len(set(ids)) == 100


@virtual_time
async def test_without_a_session_nothing_is_stored():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    await node.issue(kinds=frozenset({ACCESS, ID}))
    assert not sessions.calls


# --- ID tokens (OpenID Connect Core 1.0) -----------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize(
    ("algorithm", "digest"),
    [(Algorithm.HS256, hashlib.sha256), (Algorithm.ES256, hashlib.sha256), (Algorithm.EDDSA, hashlib.sha512)],
)
async def test_an_id_token_is_for_the_client_and_bound_to_the_access_token(algorithm: Algorithm, digest: Any):
    node = await a_node(algorithm=algorithm)
    tokens = await node.issue(
        kinds=frozenset({ACCESS, REFRESH, ID}),
        audience=("api",),
        scopes=("read",),
        nonce="n-0S6_WzA2Mj",
        auth_context=AuthContext("urn:acr:2", ("pwd",), 1_700_000_000),
        custom_claims={"email": "alice@example.org"},
    )
    assert header_of(tokens.id_token)["typ"] == "JWT"
    half = digest(tokens.access_token.encode("ascii")).digest()
    claims = claims_of(tokens.id_token)
    assert claims.pop("jti") != tokens.token_id
    assert claims == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": "web",
        "azp": "web",
        "exp": int(START) + 300,
        "iat": int(START),
        "rev": 0,
        "sid": tokens.session_id,
        "nonce": "n-0S6_WzA2Mj",
        "at_hash": base64.urlsafe_b64encode(half[: len(half) // 2]).rstrip(b"=").decode(),
        "auth_time": 1_700_000_000,
        "acr": "urn:acr:2",
        "amr": ["pwd"],
        "email": "alice@example.org",
    }


@virtual_time
async def test_id_token_alone_is_not_bound_to_other_tokens():
    node = await a_node()
    tokens = await node.issue(kinds=frozenset({ID}))
    assert not {"at_hash", "nonce", "sid", "auth_time"} & set(claims_of(tokens.id_token))
    assert (tokens.access_token, tokens.token_type, tokens.token_id) == ("", "", "")
    assert tokens.access_token_expire_time is None


# --- Sessions ---------------------------------------------------------------------------------------------------------------


@virtual_time
async def test_session_keeps_the_request_and_no_raw_secret():
    node = await a_node(policy=Policy(refresh_token_ttl=1000, idle_timeout=100))
    tokens = await node.issue(
        kinds=frozenset({ACCESS, REFRESH, SESSION, ID}),
        audience=("api",),
        scopes=("read",),
        device_id="phone",
        custom_claims={"a": 1},
        access_token_ttl=60,
    )
    row = await node.session(tokens.session_id)
    assert (row.subject, row.client_id, row.device_id) == ("alice", "web", "phone")
    assert (row.audience, row.scopes, row.custom_claims) == (("api",), ("read",), {"a": 1})
    assert (row.access_token_ttl, row.with_id_token, row.generation) == (60, True, 0)
    assert (row.create_time, row.idle_expire_time, row.absolute_expire_time) == (
        START,
        START + 100,
        START + 1000,
    )
    assert tokens.refresh_token_expire_time == row.idle_expire_time
    secrets = [unpad(token[3:])[23:55] for token in (tokens.refresh_token, tokens.session_token)]
    assert [hashlib.sha256(secret).digest() for secret in secrets] == [row.refresh_hash, row.session_hash]
    assert not any(secret.hex() in repr(row) or repr(secret)[2:-1] in repr(row) for secret in secrets)
    assert tokens.refresh_token not in repr(tokens)
    assert tokens.access_token not in repr(tokens)


@virtual_time
@pytest.mark.parametrize("kind", [REFRESH, SESSION])
async def test_only_requested_tokens_are_issued(kind: TokenKind):
    node = await a_node()
    tokens = await node.issue(kinds=frozenset({kind}))
    refresh, session = kind is REFRESH, kind is SESSION
    assert bool(tokens.refresh_token) is refresh
    assert bool(tokens.session_token) is session
    assert (tokens.access_token, tokens.id_token) == ("", "")
    assert (tokens.refresh_token_expire_time is not None) is refresh
    row = await node.session(tokens.session_id)
    assert (row.refresh_hash is not None, row.session_hash is not None) == (refresh, session)


@virtual_time
async def test_a_session_that_cant_be_stored_gives_no_tokens():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    sessions.before["create"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.issue()
    assert not node.audit.events


@virtual_time
@pytest.mark.parametrize("kinds", [{ACCESS, REFRESH}, {ID, SESSION}])
async def test_without_a_key_to_sign_with_no_session_is_left_behind(kinds: set[TokenKind]):
    node = await a_node()

    def no_signer() -> Any:
        raise SigningUnavailableError

    node.keyring.signer = no_signer  # type: ignore[method-assign]
    with pytest.raises(SigningUnavailableError):
        await node.issue(kinds=frozenset(kinds))
    assert not node.stores.sessions._state.sessions


@virtual_time
async def test_issue_is_audited_without_a_token():
    node = await a_node()
    tokens = await node.issue(kinds=ISSUABLE, client_context=Origin("192.0.2.1", "Firefox"))
    (event,) = node.audit.named("token.issued")
    assert event == {
        "subject": "alice",
        "client_id": "web",
        "session_id": tokens.session_id,
        "token_id": tokens.token_id,
        "token_types": ("ACCESS", "ID", "REFRESH", "SESSION"),
        "classification": "internal",
        "ip_address": "192.0.2.1",
        "user_agent": "Firefox",
        "actor": "system:system",
        "outcome": "success",
    }


# --- Lifetimes --------------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize(
    ("asked", "lives"),
    [(None, 900), (1, 1), (1.9, 1), (899, 899), (900, 900), (901, 900), (10**9, 900), (float("inf"), 900)],
)
async def test_an_access_token_lives_as_long_as_asked_but_never_longer_than_the_policy(
    asked: Any, lives: int
):
    node = await a_node(policy=Policy(access_token_ttl=900, id_token_ttl=200))
    tokens = await node.issue(kinds=frozenset({ACCESS, ID, REFRESH}), access_token_ttl=asked)
    assert claims_of(tokens.access_token)["exp"] == int(START) + lives
    assert claims_of(tokens.id_token)["exp"] == int(START) + 200
    refreshed = await node.refresh(tokens.refresh_token)
    assert claims_of(refreshed.access_token)["exp"] == int(START) + lives
    assert claims_of(refreshed.id_token)["exp"] == int(START) + 200


@virtual_time
async def test_requested_lifetime_fits_its_column():
    node = await a_node()
    tokens = await node.issue(access_token_ttl=10.0**11, refresh_token_ttl=10.0**11)
    row = await node.session(tokens.session_id)
    assert row.access_token_ttl is not None
    assert row.access_token_ttl < 2**31


@virtual_time
@pytest.mark.parametrize(
    ("asked", "absolute", "idle"),
    [
        (None, 1000, 300),
        (1, 1, 1),
        (299.5, 299.5, 299.5),
        (500, 500, 300),
        (1000, 1000, 300),
        (5000, 1000, 300),
    ],
)
async def test_a_session_lives_as_long_as_asked_but_never_longer_than_the_policy(
    asked: Any, absolute: float, idle: float
):
    node = await a_node(policy=Policy(refresh_token_ttl=1000, idle_timeout=300))
    tokens = await node.issue(refresh_token_ttl=asked)
    row = await node.session(tokens.session_id)
    assert (row.absolute_expire_time - START, row.idle_expire_time - START) == (absolute, idle)


# --- Repeated requests ----------------------------------------------------------------------------------------------------


BASE: dict[str, Any] = {
    "request_id": "r-1",
    "kinds": frozenset({ACCESS, REFRESH, SESSION, ID}),
    "audience": ("api",),
    "scopes": ("read", "write"),
    "device_id": "phone",
    "auth_context": AuthContext("1", ("pwd",), 1_700_000_000),
    "custom_claims": {"a": [1, {"b": None}]},
    "confirmation": Confirmation(jkt=THUMBPRINT),
    "access_token_ttl": 60.0,
    "refresh_token_ttl": 1000.0,
}


@virtual_time
async def test_a_repeated_request_gets_the_same_session_and_the_same_opaque_tokens():
    node = await a_node()
    first = await node.issue(**BASE)
    node.clock.elapsed += 20.5
    again = await node.issue(**BASE)
    assert again.session_id == first.session_id
    assert (again.refresh_token, again.session_token) == (first.refresh_token, first.session_token)
    assert again.refresh_token_expire_time == first.refresh_token_expire_time
    assert again.token_id != first.token_id
    assert claims_of(again.access_token)["sid"] == first.session_id
    assert claims_of(again.access_token)["exp"] == claims_of(first.access_token)["exp"] + 20
    assert len(node.stores.sessions._state.sessions) == 1


@virtual_time
@pytest.mark.parametrize(
    "change",
    [
        {"subject": "bob"},
        {"device_id": "tablet"},
        {"device_id": ""},
        {"scopes": ("read",)},
        {"scopes": ()},
        {"audience": ("other",)},
        {"audience": ("api", "other")},
        {"audience": ()},
        {"auth_context": AuthContext("2", ("pwd",), 1_700_000_000)},
        {"auth_context": None},
        {"confirmation": Confirmation()},
        {"confirmation": Confirmation(x5t_s256=THUMBPRINT)},
        {"custom_claims": {"a": [1, {"b": 0}]}},
        {"custom_claims": {}},
        {"kinds": frozenset({ACCESS, REFRESH, SESSION})},
        {"kinds": frozenset({ACCESS, REFRESH, ID})},
        {"kinds": frozenset({ACCESS, SESSION, ID})},
        {"access_token_ttl": 61.0},
        {"access_token_ttl": None},
        {"refresh_token_ttl": 999.0},
        {"refresh_token_ttl": None},
    ],
    ids=str,
)
async def test_request_id_with_another_request_is_refused(change: dict[str, Any]):
    node = await a_node()
    await node.issue(**BASE)
    with pytest.raises(RequestIdReusedError):
        await node.issue(**{**BASE, **change})
    assert (await node.issue(**BASE)).session_id


@virtual_time
async def test_request_ids_are_separate_for_each_client():
    node = await a_node()
    first = await node.issue(client_id="web", request_id="r-1")
    second = await node.issue(client_id="app", request_id="r-1")
    assert first.session_id != second.session_id
    assert first.refresh_token != second.refresh_token


@virtual_time
async def test_a_request_whose_session_is_in_use_is_not_answered_again():
    node = await a_node()
    first = await node.issue(**BASE)
    await node.refresh(first.refresh_token, device_id="phone", keys=ProvedKeys(jkt=THUMBPRINT))
    with pytest.raises(RequestIdReusedError):
        await node.issue(**BASE)


@virtual_time
@pytest.mark.parametrize("end", ["revoked", "subject revoked", "idle", "expired"])
async def test_a_request_whose_session_has_ended_is_not_answered_again(end: str):
    node = await a_node(policy=Policy(idle_timeout=100))
    first = await node.issue(**BASE)
    if end == "revoked":
        await node.revoke(token=first.refresh_token)
    elif end == "subject revoked":
        await node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    else:
        node.clock.elapsed += 100 if end == "idle" else 1000
    with pytest.raises(RequestIdReusedError):
        await node.issue(**BASE)


@virtual_time
async def test_repeated_request_recovers_a_lost_answer_of_the_store():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)
    node = await a_node(stores=stores, sessions=sessions)
    sessions.after["create"] = raising(StoreUnavailableError())
    with pytest.raises(StoreUnavailableError):
        await node.issue(**BASE)
    del sessions.after["create"]
    tokens = await node.issue(**BASE)
    assert len(stores.sessions._state.sessions) == 1
    refreshed = await node.refresh(tokens.refresh_token, device_id="phone", keys=ProvedKeys(jkt=THUMBPRINT))
    assert refreshed.session_id == tokens.session_id


@virtual_time
async def test_concurrent_requests_with_one_id_make_one_session():
    stores = MemoryStores()
    sessions = Intercepted(stores.sessions)

    async def elsewhere() -> None:
        await asyncio.sleep(0)

    sessions.before["create"] = sessions.after["create"] = elsewhere
    node = await a_node(stores=stores, sessions=sessions)
    issued = await asyncio.gather(*(node.issue(**BASE) for _ in range(20)))
    assert len({tokens.refresh_token for tokens in issued}) == 1
    assert len({tokens.session_token for tokens in issued}) == 1
    assert len(stores.sessions._state.sessions) == 1


@virtual_time
async def test_without_a_request_id_each_call_makes_a_session():
    node = await a_node()
    first, second = await node.issue(), await node.issue()
    assert first.session_id != second.session_id
    assert first.refresh_token != second.refresh_token


# --- Custom claims -----------------------------------------------------------------------------------------------------------


@virtual_time
@pytest.mark.parametrize("name", sorted(RESERVED_CLAIMS))
async def test_request_cannot_set_reserved_claims(name: str):
    node = await a_node()
    with pytest.raises(ReservedClaimError) as error:
        await node.issue(custom_claims={"fine": 1, name: 1})
    assert error.value.metadata == {"claim": name}


def test_every_claim_of_the_token_service_is_reserved():
    assert (
        set(
            "iss sub aud exp nbf iat jti client_id scope sid auth_ctx cnf rev nonce at_hash auth_time acr amr azp".split()
        )
        <= RESERVED_CLAIMS
    )


@virtual_time
@pytest.mark.parametrize("size", [0, 7, 4096, 8192])
async def test_custom_claims_are_limited_in_size(size: int):
    node = await a_node(policy=Policy(max_custom_claim_bytes=size))
    padding = len(json.dumps({"x": ""}, separators=(",", ":")))
    if size >= padding:
        await node.issue(custom_claims={"x": "y" * (size - padding)})
    await node.issue(custom_claims={})
    with pytest.raises(CustomClaimsTooLargeError):
        await node.issue(custom_claims={"x": "y" * (size - padding + 1)})


@virtual_time
async def test_size_of_custom_claims_is_counted_in_utf_8():
    node = await a_node(policy=Policy(max_custom_claim_bytes=28))
    await node.issue(custom_claims={"x": "é" * 10})
    with pytest.raises(CustomClaimsTooLargeError):
        await node.issue(custom_claims={"x": "é" * 11})


@virtual_time
async def test_custom_claims_are_limited_in_number():
    node = await a_node()
    claims = {f"claim-{number}": number for number in range(limits.MAX_CUSTOM_CLAIMS)}
    await node.issue(custom_claims=claims)
    with pytest.raises(CustomClaimsTooLargeError):
        await node.issue(custom_claims={**claims, "one-more": 1})


@virtual_time
@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"x": inner}])
async def test_custom_claims_are_limited_in_depth(wrap: Any):
    node = await a_node()
    value: Any = "leaf"
    for _ in range(limits.MAX_CUSTOM_CLAIM_DEPTH - 1):
        value = wrap(value)
    tokens = await node.issue(custom_claims={"deep": value})
    assert (await node.validate(tokens.access_token)).reason is None
    with pytest.raises(CustomClaimsTooLargeError):
        await node.issue(custom_claims={"deep": wrap(value)})


# --- Limits -----------------------------------------------------------------------------------------------------------------


def auth(**changes: Any) -> AuthContext:
    return replace(AuthContext(), **changes)


LIMITS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    ("subject", {"subject": "s" * limits.MAX_SUBJECT}, {"subject": "s" * (limits.MAX_SUBJECT + 1)}),
    (
        "subject",
        {"subject": "é" * (limits.MAX_SUBJECT // 2)},
        {"subject": "é" * (limits.MAX_SUBJECT // 2 + 1)},
    ),
    ("subject", {"subject": "a b"}, {"subject": ""}),
    ("subject", {"subject": "ünï"}, {"subject": "a\nb"}),
    ("subject", {}, {"subject": "\x00"}),
    ("client_id", {"client_id": "c" * limits.MAX_CLIENT_ID}, {"client_id": "c" * (limits.MAX_CLIENT_ID + 1)}),
    ("client_id", {}, {"client_id": ""}),
    ("device_id", {"device_id": "d" * limits.MAX_DEVICE_ID}, {"device_id": "d" * (limits.MAX_DEVICE_ID + 1)}),
    ("nonce", {"nonce": "n" * limits.MAX_NONCE}, {"nonce": "n" * (limits.MAX_NONCE + 1)}),
    (
        "request_id",
        {"request_id": "r" * limits.MAX_REQUEST_ID},
        {"request_id": "r" * (limits.MAX_REQUEST_ID + 1)},
    ),
    (
        "audience",
        {"audience": tuple(f"aud-{n}" for n in range(limits.MAX_AUDIENCES))},
        {"audience": tuple(f"aud-{n}" for n in range(limits.MAX_AUDIENCES + 1))},
    ),
    (
        "audience[0]",
        {"audience": ("a" * limits.MAX_AUDIENCE,)},
        {"audience": ("a" * (limits.MAX_AUDIENCE + 1),)},
    ),
    ("audience[1]", {}, {"audience": ("a", "")}),
    ("audience", {"audience": ("a", "b")}, {"audience": ("a", "a")}),
    (
        "scopes",
        {"scopes": tuple(f"scope-{n}" for n in range(limits.MAX_SCOPES))},
        {"scopes": tuple(f"scope-{n}" for n in range(limits.MAX_SCOPES + 1))},
    ),
    ("scopes[0]", {"scopes": ("s" * limits.MAX_SCOPE,)}, {"scopes": ("s" * (limits.MAX_SCOPE + 1),)}),
    ("scopes[0]", {"scopes": ("!#[]~",)}, {"scopes": ("a b",)}),
    ("scopes[1]", {}, {"scopes": ("a", 'b"')}),
    ("scopes[1]", {}, {"scopes": ("a", "b\\")}),
    ("scopes[0]", {}, {"scopes": ("é",)}),
    ("scopes[0]", {}, {"scopes": ("",)}),
    ("scopes", {}, {"scopes": ("a", "a")}),
    ("token_types", {"kinds": frozenset({ID})}, {"kinds": frozenset()}),
    ("access_token_ttl", {"access_token_ttl": 1}, {"access_token_ttl": 0.999}),
    ("access_token_ttl", {}, {"access_token_ttl": -5}),
    ("access_token_ttl", {}, {"access_token_ttl": float("nan")}),
    ("refresh_token_ttl", {"refresh_token_ttl": 1}, {"refresh_token_ttl": 0}),
    ("refresh_token_ttl", {}, {"refresh_token_ttl": float("nan")}),
    (
        "auth_context.acr",
        {"auth_context": auth(acr="a" * limits.MAX_ACR)},
        {"auth_context": auth(acr="a" * (limits.MAX_ACR + 1))},
    ),
    (
        "auth_context.amr",
        {"auth_context": auth(amr=tuple(f"m{n}" for n in range(limits.MAX_AMRS)))},
        {"auth_context": auth(amr=tuple(f"m{n}" for n in range(limits.MAX_AMRS + 1)))},
    ),
    (
        "auth_context.amr[0]",
        {"auth_context": auth(amr=("m" * limits.MAX_AMR,))},
        {"auth_context": auth(amr=("m" * (limits.MAX_AMR + 1),))},
    ),
    ("auth_context.auth_time", {"auth_context": auth(auth_time=0)}, {"auth_context": auth(auth_time=-1)}),
    (
        "auth_context.auth_time",
        {"auth_context": auth(auth_time=253402300799)},
        {"auth_context": auth(auth_time=253402300800)},
    ),
    (
        "confirmation",
        {"confirmation": Confirmation(jkt=THUMBPRINT)},
        {"confirmation": Confirmation(jkt=THUMBPRINT, x5t_s256=THUMBPRINT)},
    ),
    ("confirmation.jkt", {}, {"confirmation": Confirmation(jkt=THUMBPRINT + "A")}),
    ("confirmation.jkt", {}, {"confirmation": Confirmation(jkt=THUMBPRINT[1:])}),
    ("confirmation.jkt", {}, {"confirmation": Confirmation(jkt="=" + THUMBPRINT[1:])}),
    ("confirmation.jkt", {}, {"confirmation": Confirmation(jkt="é" + THUMBPRINT[1:])}),
    (
        "confirmation.x5t_s256",
        {"confirmation": Confirmation(x5t_s256="-_" + THUMBPRINT[2:])},
        {"confirmation": Confirmation(x5t_s256="+/" + THUMBPRINT[2:])},
    ),
    (
        "client_context.ip_address",
        {"client_context": Origin(ip_address="1" * limits.MAX_IP_ADDRESS)},
        {"client_context": Origin(ip_address="1" * (limits.MAX_IP_ADDRESS + 1))},
    ),
    (
        "client_context.user_agent",
        {"client_context": Origin(user_agent="u" * limits.MAX_USER_AGENT)},
        {"client_context": Origin(user_agent="u" * (limits.MAX_USER_AGENT + 1))},
    ),
]


@virtual_time
@pytest.mark.parametrize(
    ("field", "good", "bad"), LIMITS, ids=[f"{n}-{case[0]}" for n, case in enumerate(LIMITS)]
)
async def test_each_limit_at_its_edge(field: str, good: dict[str, Any], bad: dict[str, Any]):
    node = await a_node()
    tokens = await node.issue(**good)
    if tokens.access_token:
        assert (await node.validate(tokens.access_token, caller_checks_binding=True)).reason is None
    with pytest.raises(InvalidRequestError) as error:
        await node.issue(**bad)
    assert violations(error.value) == {field}
    assert len(node.stores.sessions._state.sessions) <= 1


@virtual_time
async def test_all_mistakes_are_reported_in_one_error():
    node = await a_node()
    with pytest.raises(InvalidRequestError) as error:
        await node.issue(subject="", scopes=("a b",), access_token_ttl=0, nonce="\n")
    assert violations(error.value) == {"subject", "scopes[0]", "access_token_ttl", "nonce"}


@virtual_time
async def test_token_too_large_for_validators_is_not_issued():
    node = await a_node(policy=Policy(max_custom_claim_bytes=8192))
    everything: dict[str, Any] = {
        "subject": "s" * limits.MAX_SUBJECT,
        "client_id": "c" * limits.MAX_CLIENT_ID,
        "audience": tuple(f"{n:02}" + "a" * (limits.MAX_AUDIENCE - 2) for n in range(limits.MAX_AUDIENCES)),
        "scopes": tuple(f"{n:02}" + "s" * (limits.MAX_SCOPE - 2) for n in range(limits.MAX_SCOPES)),
        "custom_claims": {"x": "y" * 8000},
    }
    with pytest.raises(InvalidRequestError) as error:
        await node.issue(**everything)
    assert violations(error.value) == {"custom_claims"}
    assert not node.stores.sessions._state.sessions
    for size in range(0, 8192, 64):
        try:
            tokens = await node.issue(**{**everything, "scopes": (), "custom_claims": {"x": "y" * size}})
        except ServiceError:
            break
        assert len(tokens.access_token) <= MAX_TOKEN_BYTES
        assert (await node.validate(tokens.access_token)).reason is None
        node.clock.elapsed += 1
        assert (
            await node.validate(
                (await node.refresh(tokens.refresh_token, client_id=everything["client_id"])).access_token
            )
        ).reason is None
    else:
        pytest.fail("every size fits")
    assert size > 1900


@virtual_time
@pytest.mark.parametrize("confirmation", [Confirmation(jkt=THUMBPRINT), Confirmation(x5t_s256=THUMBPRINT)])
async def test_a_policy_may_demand_that_tokens_are_bound(confirmation: Confirmation):
    node = await a_node(policy=Policy(binding_required=True))
    with pytest.raises(BindingRequiredError):
        await node.issue()
    assert (await node.issue(confirmation=confirmation)).access_token


# --- Audiences with a classification ----------------------------------------------------------------------------------


def a_classified_book() -> PolicyBook:
    return parse_policy_book(
        {
            "classifications": {
                "internal": {"access_token_ttl": 900, "idle_timeout": 300},
                "strict": {"access_token_ttl": 60, "idle_timeout": 100, "refresh_token_ttl": 1000},
                "bound": {"binding_required": True},
            },
            "audiences": {"billing": {"classification": "strict"}, "vault": {"classification": "bound"}},
        }
    )


@virtual_time
async def test_an_audience_shortens_the_lifetimes_of_issue_refresh_and_extension():
    node = await a_node()
    node.core.policies.book = a_classified_book()
    lives = {}
    for audience in ("orders", "billing"):
        tokens = await node.issue(audience=(audience,))
        row = await node.core.ports.stores.sessions.get(UUID(tokens.session_id))
        assert row is not None
        refreshed = await node.refresh(tokens.refresh_token)
        assert refreshed.refresh_token_expire_time is not None
        extended = await node.sessions.extend(Caller.system(), tokens.session_id, "web", None, START + 1)
        lives[audience] = (
            claims_of(tokens.access_token)["exp"] - int(START),
            row.idle_expire_time - START,
            row.absolute_expire_time - START,
            claims_of(refreshed.access_token)["exp"] - claims_of(refreshed.access_token)["iat"],
            refreshed.refresh_token_expire_time - START,
            extended.idle_expire_time - START,
        )
    assert lives["billing"] == pytest.approx((60, 100, 1000, 60, 100, 101))
    assert lives["orders"] == pytest.approx((900, 300, 14 * 86400, 900, 300, 301))


async def test_an_audience_may_require_a_binding():
    node = await a_node()
    node.core.policies.book = a_classified_book()
    with pytest.raises(BindingRequiredError):
        await node.issue(audience=("orders", "vault"))
    assert (await node.issue(audience=("orders",))).access_token
