"""Transaction tokens: their claims, their replacement and their end (draft-ietf-oauth-transaction-tokens-10)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from msgspec import structs

from tests.unit.core.grants.exchanging import (
    DOMAIN,
    EVERYTHING,
    GATEWAY,
    Exchanging,
    claims,
)
from tests.unit.core.jwts import claims_of, header_of
from tests.unit.core.node import ISSUER
from token_service.core.access.caller import Caller
from token_service.core.access.rights import Rights
from token_service.core.grants.presented import ACCESS_TOKEN, TRANSACTION_TOKEN
from token_service.core.issuing.commands import IssueCommand
from token_service.core.policies.policy import Policy
from token_service.core.policies.rights import Permission, Right
from token_service.core.revocation.commands import RevokeCommand
from token_service.errors import (
    InvalidReason,
    InvalidRequestError,
    PermissionDeniedError,
    ScopeExceededError,
    SubjectTokenInvalidError,
)
from token_service.tokens.claims import AuthContext, TokenKind, VerifiedClaims
from token_service.tokens.revocation import RevocationTarget

REPLACED: dict[str, Any] = {"subject_token_type": TRANSACTION_TOKEN}


@pytest.fixture
async def scene() -> Exchanging:
    return await Exchanging.make()


async def reason(scene: Exchanging, token: str) -> InvalidReason | None:
    return (await scene.node.validate(token, kind=TokenKind.TRANSACTION)).reason


async def test_claims_are_those_of_the_draft(scene: Exchanging) -> None:
    context = AuthContext("mfa", ("pwd",), int(scene.node.clock.now()))
    token = await scene.token(auth_context=context, custom_claims={"roles": ["buyer"], "rctx": "x"})
    scene.node.policy = Policy(allowed_custom_claims=("rctx",))
    before = claims_of(token)
    exchanged = await scene.transaction(
        token,
        "gateway",
        GATEWAY,
        request_context='{"req_ip": "192.0.2.1"}',
        request_details='{"action": "BUY", "quantity": 2}',
    )
    assert header_of(exchanged.tokens.access_token)["typ"] == "txntoken+jwt"
    assert (exchanged.tokens.token_type, exchanged.issued_token_type) == ("N_A", TRANSACTION_TOKEN)
    assert not exchanged.tokens.refresh_token
    after = claims(exchanged)
    assert len(after["txn"]) == 22
    assert exchanged.tokens.token_id == after.pop("txn")
    assert after == {
        "iss": ISSUER,
        "sub": "alice",
        "aud": DOMAIN,
        "iat": before["iat"],
        "exp": before["iat"] + 300,
        "scope": "pay",
        "req_wl": "gateway",
        "sid": before["sid"],
        "rev": before["rev"],
        "auth_ctx": before["auth_ctx"],
        "roles": ["buyer"],
        "rctx": {"req_ip": "192.0.2.1"},
        "tctx": {"action": "BUY", "quantity": 2},
    }


async def test_claims_of_the_subject_token_never_become_those_of_the_transaction(scene: Exchanging) -> None:
    names = ("txn", "req_wl", "req_wl_chain", "rctx", "tctx")
    scene.node.policy = Policy(allowed_custom_claims=(*names, "team"))
    token = await scene.token(custom_claims={**{name: ["forged"] for name in names}, "team": "x"})
    after = claims(await scene.transaction(token))
    assert after["team"] == "x"
    assert not {"req_wl_chain", "rctx", "tctx"} & set(after)
    assert (after["req_wl"], len(after["txn"])) == ("web", 22)
    # In an access token they have no meaning, so the policy decides.
    assert claims(await scene.exchange(token, "web"))["rctx"] == ["forged"]


async def test_validation_shows_the_transaction_as_the_id_and_the_workload_as_the_client(
    scene: Exchanging,
) -> None:
    exchanged = await scene.transaction(await scene.token(), request_details='{"a": 1}')
    answer = await scene.node.validate(
        exchanged.tokens.access_token, kind=TokenKind.TRANSACTION, audience=DOMAIN, required_scopes=("pay",)
    )
    found = answer.claims
    assert isinstance(found, VerifiedClaims)
    assert (found.kind, found.token_id, found.client_id) == (
        TokenKind.TRANSACTION,
        exchanged.tokens.token_id,
        "web",
    )
    assert found.custom_claims == {"tctx": {"a": 1}}


@pytest.mark.parametrize("kind", [None, *(set(TokenKind) - {TokenKind.TRANSACTION})])
async def test_only_a_query_for_transaction_tokens_accepts_one(
    scene: Exchanging, kind: TokenKind | None
) -> None:
    token = (await scene.transaction(await scene.token())).tokens.access_token
    assert (await scene.node.validate(token, kind=kind)).reason is InvalidReason.WRONG_TYPE
    assert await reason(scene, token) is None
    assert await reason(scene, await scene.token()) is InvalidReason.WRONG_TYPE


async def test_lifetime_is_the_shorter_one_of_policy_and_subject_token(scene: Exchanging) -> None:
    start = int(scene.node.clock.now())
    short = await scene.token(access_token_ttl=40)
    assert claims(await scene.transaction(short))["exp"] == start + 40
    scene.node.policy = Policy(transaction_token_ttl=7)
    assert claims(await scene.transaction(short))["exp"] == start + 7


@pytest.mark.parametrize("count", [0, 2])
async def test_request_names_one_trust_domain(scene: Exchanging, count: int) -> None:
    with pytest.raises(InvalidRequestError):
        await scene.transaction(await scene.token(), audience=(DOMAIN, "orders")[:count])


async def test_request_names_the_purpose(scene: Exchanging) -> None:
    with pytest.raises(InvalidRequestError):
        await scene.transaction(await scene.token(), scopes=())
    with pytest.raises(ScopeExceededError):
        await scene.transaction(await scene.token(scopes=("read",)), scopes=("pay",))


async def test_trust_domain_comes_from_the_registration_or_a_right(scene: Exchanging) -> None:
    await scene.transaction(
        await scene.token()
    )  # registered for the domain, which is no audience of the token
    with pytest.raises(PermissionDeniedError):
        await scene.transaction(await scene.token(), audience=("other.example",))
    await scene.transaction(await scene.token(), "web", EVERYTHING, audience=("other.example",))
    # An empty list of audiences of a registration names no trust domain.
    with pytest.raises(PermissionDeniedError):
        await scene.transaction(await scene.token("gateway"), "gateway")
    access_only = structs.replace(GATEWAY, token_types=("access",))
    with pytest.raises(PermissionDeniedError) as denied:
        await scene.transaction(await scene.token(), "gateway", access_only)
    assert denied.value.metadata["bound"] == "token_types"


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        "{",
        "null",
        '{"a": 1, "a": 2}',
        '{"a": NaN}',
        json.dumps({"a": "x" * 4096}),
        '{"a":' * 9 + "1" + "}" * 9,
    ],
)
@pytest.mark.parametrize("parameter", ["request_context", "request_details"])
async def test_context_is_a_small_json_object(scene: Exchanging, parameter: str, text: str) -> None:
    with pytest.raises(InvalidRequestError) as refused:
        await scene.transaction(await scene.token(), **{parameter: text})
    assert [violation.field for violation in refused.value.violations] == [parameter]


async def test_largest_context_fits_into_a_token(scene: Exchanging) -> None:
    largest = json.dumps({"a": "é" * 2040}, ensure_ascii=False)
    deepest = '{"a":' * 8 + "1" + "}" * 8
    token = await scene.token(subject="x" * 256)
    exchanged = await scene.transaction(token, request_context=largest, request_details=largest)
    assert await reason(scene, exchanged.tokens.access_token) is None
    await scene.transaction(token, request_context=deepest)
    claim = {"roles": ["r" * 4000]}
    with pytest.raises(InvalidRequestError):
        await scene.transaction(
            await scene.token(custom_claims=claim), request_context=largest, request_details=largest
        )


async def test_actor_token_stays_named(scene: Exchanging) -> None:
    actor: dict[str, Any] = {
        "actor_token": await scene.token("gateway", "bob"),
        "actor_token_type": ACCESS_TOKEN,
    }
    exchanged = await scene.transaction(await scene.token(), "gateway", GATEWAY, **actor)
    assert claims(exchanged)["act"] == {"sub": "bob", "client_id": "gateway"}
    replaced = await scene.transaction(exchanged.tokens.access_token, "gateway", **REPLACED)
    assert claims(replaced)["act"] == {"sub": "bob", "client_id": "gateway"}


# --- Replacement -----------------------------------------------------------------------------------------------------------------


async def test_replacement_keeps_the_transaction_and_the_call_chain(scene: Exchanging) -> None:
    first = await scene.transaction(
        await scene.token(), scopes=("pay", "read"), request_context='{"ip": "a"}', request_details='{"x": 1}'
    )
    right = Right(permission=Permission.EXCHANGE, clients=("web",), token_types=("transaction",))
    second = await scene.transaction(
        first.tokens.access_token,
        "gateway",
        right,
        request_context='{"ip": "a", "host": "b"}',
        request_details='{"y": 2}',
        **REPLACED,
    )
    before, after = claims(first), claims(second)
    assert (after["rctx"], after["tctx"]) == ({"ip": "a", "host": "b"}, {"x": 1, "y": 2})
    assert (after["req_wl"], after["req_wl_chain"], after["scope"]) == ("gateway", ["web"], "pay")
    for name in ("txn", "sub", "aud", "sid"):
        assert after[name] == before[name]
    assert after["exp"] <= before["exp"]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"scopes": ("read",)}, ScopeExceededError),
        ({"audience": ("orders",)}, ScopeExceededError),
        ({"request_details": '{"x": 2}'}, InvalidRequestError),
        ({"request_context": '{"ip": null}'}, InvalidRequestError),
        ({"requested_token_type": ACCESS_TOKEN}, SubjectTokenInvalidError),
        ({"subject_token_type": ACCESS_TOKEN}, SubjectTokenInvalidError),
    ],
)
async def test_replacement_changes_nothing_else(
    scene: Exchanging, change: dict[str, Any], error: type[Exception]
) -> None:
    first = await scene.transaction(
        await scene.token(), request_context='{"ip": "a"}', request_details='{"x": 1}'
    )
    await scene.transaction(first.tokens.access_token, "web", EVERYTHING, **REPLACED)
    with pytest.raises(error):
        await scene.transaction(first.tokens.access_token, "web", EVERYTHING, **{**REPLACED, **change})


async def test_replacements_are_bounded_and_never_live_longer(scene: Exchanging) -> None:
    token = (await scene.transaction(await scene.token())).tokens.access_token
    end = claims_of(token)["exp"]
    for _ in range(4):
        scene.node.clock.elapsed += 30
        token = (await scene.transaction(token, **REPLACED)).tokens.access_token
        assert claims_of(token)["exp"] == end
    assert claims_of(token)["req_wl_chain"] == ["web"] * 4
    with pytest.raises(SubjectTokenInvalidError) as refused:
        await scene.transaction(token, **REPLACED)
    assert refused.value.metadata == {"parameter": "subject_token", "cause": "ACTORS"}


async def test_context_of_a_transaction_stays_small_however_often_it_grows(scene: Exchanging) -> None:
    part = "x" * 2500
    first = await scene.transaction(await scene.token(), request_details=json.dumps({"a": part}))
    with pytest.raises(InvalidRequestError) as refused:
        await scene.transaction(
            first.tokens.access_token, request_details=json.dumps({"b": part}), **REPLACED
        )
    assert [violation.field for violation in refused.value.violations] == ["request_details"]


# --- Revocation ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "target", ["token_id", "token", "session", "subject", "client", "everything", "replacement"]
)
async def test_every_way_to_revoke_ends_all_tokens_of_the_transaction(scene: Exchanging, target: str) -> None:
    first = await scene.transaction(await scene.token())
    scene.node.policy = Policy(transaction_token_ttl=100)  # so that the expiries lie in different buckets
    second = await scene.transaction(first.tokens.access_token, **REPLACED)
    other = (await scene.transaction(await scene.token("gateway", "bob"), "gateway", EVERYTHING)).tokens
    tokens = [first.tokens.access_token, second.tokens.access_token]
    assert claims_of(tokens[0])["exp"] - claims_of(tokens[1])["exp"] > 64
    if target in ("token", "replacement"):
        await scene.node.revoke(token=tokens[target == "replacement"])
    else:
        values = {
            "token_id": first.tokens.token_id,
            "session": first.tokens.session_id,
            "subject": "alice",
            "client": "web",
            "everything": "",
        }
        await scene.node.revoke(target=RevocationTarget[target.upper()], value=values[target])
    assert [await reason(scene, token) for token in tokens] == [InvalidReason.REVOKED] * 2
    assert (await reason(scene, other.access_token) is None) == (target != "everything")


async def test_client_revokes_its_own_transaction_only(scene: Exchanging) -> None:
    exchanged = await scene.transaction(await scene.token(), "gateway", GATEWAY)

    async def revoke(client_id: str) -> None:
        right = Right(permission=Permission.REVOKE, clients=(client_id,))
        command = RevokeCommand(token=exchanged.tokens.access_token)
        await scene.node.revoker.revoke(
            Caller(client_id, Rights([right]), client_id=client_id), command, scene.node.clock.now()
        )

    with pytest.raises(PermissionDeniedError):
        await revoke("web")
    assert await reason(scene, exchanged.tokens.access_token) is None
    await revoke("gateway")
    assert await reason(scene, exchanged.tokens.access_token) is InvalidReason.REVOKED


async def test_issue_token_issues_no_transaction_token(scene: Exchanging) -> None:
    command = IssueCommand(subject="alice", client_id="web", kinds=frozenset({TokenKind.TRANSACTION}))
    with pytest.raises(InvalidRequestError):
        await scene.node.issuer.issue(Caller.system(), command, scene.node.clock.now())
