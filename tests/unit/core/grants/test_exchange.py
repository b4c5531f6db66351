"""Token exchange: what a client may get for which token."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec import structs

from tests.unit.core.grants.exchanging import (
    EVERYTHING,
    GATEWAY,
    IMPERSONATE,
    SCOPES,
    Exchanging,
    claims,
)
from tests.unit.core.jwts import claims_of, header_of
from tests.unit.core.node import ISSUER, Node
from tests.unit.core.virtual_time import cancelled
from token_service.core.access.caller import Caller, Proof
from token_service.core.grants.exchange import ExchangeRequest
from token_service.core.grants.presented import ACCESS_TOKEN, JWT, TRANSACTION_TOKEN
from token_service.core.issuing.minter import _MAX_PAYLOAD_BYTES, Grant
from token_service.core.limits import MAX_ACTORS
from token_service.core.policies.policy import Policy
from token_service.core.policies.rates import Bucket, Operation, Rate
from token_service.core.policies.rights import Permission, Right
from token_service.errors import (
    BindingRequiredError,
    ClientDisabledError,
    CustomClaimsTooLargeError,
    GrantTypeNotAllowedError,
    InvalidReason,
    InvalidRequestError,
    PermissionDeniedError,
    RateLimitedError,
    ScopeExceededError,
    ServiceError,
    SubjectTokenInvalidError,
)
from token_service.tokens import strict_json
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind, VerifiedClaims
from token_service.tokens.revocation import RevocationTarget


@pytest.fixture
async def scene() -> Exchanging:
    return await Exchanging.make()


async def refusal(scene: Exchanging, error: type[ServiceError], *args: Any, **request: Any) -> ServiceError:
    with pytest.raises(error) as refused:
        await scene.exchange(*args, **request)
    return refused.value


# --- The new token ------------------------------------------------------------------------------------------------------------


async def test_own_token_is_exchanged_for_a_narrower_one_without_a_right(scene: Exchanging) -> None:
    context = AuthContext("mfa", ("pwd", "otp"), int(scene.node.clock.now()) - 5)
    token = await scene.token(auth_context=context, custom_claims={"roles": ["buyer"], "tenant": "t"})
    before = claims_of(token)
    exchanged = await scene.exchange(token, "web", audience=("mail",), scopes=("read",))
    after = claims(exchanged)
    assert header_of(exchanged.tokens.access_token)["typ"] == "at+jwt"
    assert exchanged.issued_token_type == ACCESS_TOKEN
    assert exchanged.tokens.token_type == "Bearer"
    assert not exchanged.tokens.refresh_token
    assert (exchanged.tokens.scopes, exchanged.tokens.access_token_expire_time) == (("read",), after["exp"])
    assert after.pop("jti") != before["jti"]
    kept = ("iss", "sub", "exp", "iat", "nbf", "client_id", "rev", "sid", "auth_ctx", "acr", "auth_time")
    assert after == {
        **{name: before[name] for name in kept},
        "aud": "mail",
        "scope": "read",
        "roles": ["buyer"],
    }


async def test_new_token_has_the_scopes_and_the_audience_of_the_old_one_by_default(
    scene: Exchanging,
) -> None:
    after = claims(await scene.exchange(await scene.token(), "web"))
    assert (after["aud"], after["scope"]) == (["orders", "mail"], "pay read write")


async def test_token_without_session_and_scopes_gives_one_without_them(scene: Exchanging) -> None:
    token = await scene.token("web", subject="web", scopes=(), kinds=frozenset({TokenKind.ACCESS}))
    after = claims(await scene.exchange(token, "web", audience=("orders",)))
    assert not {"sid", "scope", "act"} & set(after)


async def test_requested_type_names_the_issued_type(scene: Exchanging) -> None:
    token = await scene.token()
    exchanged = await scene.exchange(token, "web", requested_token_type=JWT, subject_token_type=JWT)
    assert exchanged.issued_token_type == JWT


async def test_new_token_never_outlives_the_old_one_or_the_policy(scene: Exchanging) -> None:
    token = await scene.token(access_token_ttl=100)
    start = int(scene.node.clock.now())
    scene.node.clock.elapsed += 40.5
    assert claims(await scene.exchange(token, "web"))["exp"] == start + 100
    scene.node.policy = Policy(access_token_ttl=30)
    assert claims(await scene.exchange(token, "web"))["exp"] == start + 70


async def test_new_token_does_not_outlive_the_token_of_its_actor(scene: Exchanging) -> None:
    token, actor = await scene.token(), await scene.token(subject="bob", access_token_ttl=60)
    after = claims(await scene.exchange(token, "web", actor_token=actor, actor_token_type=ACCESS_TOKEN))
    assert after["exp"] == claims_of(actor)["exp"] < claims_of(token)["exp"]


async def test_other_custom_claims_are_carried_only_if_the_policy_names_them(scene: Exchanging) -> None:
    held = {"roles": ["r"], "groups": ["g"], "entitlements": ["e"], "tenant": "t", "team": "x"}
    token = await scene.token(custom_claims=held)
    after = claims(await scene.exchange(token, "web"))
    assert {name for name in held if name in after} == {"roles", "groups", "entitlements"}
    scene.node.policy = Policy(allowed_custom_claims=("tenant",))
    after = claims(await scene.exchange(token, "web"))
    assert {name for name in held if name in after} == {"roles", "groups", "entitlements", "tenant"}
    scene.node.policy = Policy(max_custom_claim_bytes=10)
    await refusal(scene, CustomClaimsTooLargeError, token, "web")


# --- Rights --------------------------------------------------------------------------------------------------------------------

INSIDE: dict[str, Any] = {"audience": ("inventory",), "scopes": ("read",)}


async def test_right_gives_tokens_of_other_clients_for_other_audiences(scene: Exchanging) -> None:
    after = claims(await scene.exchange(await scene.token(), "gateway", GATEWAY, **INSIDE))
    assert (after["sub"], after["client_id"], after["aud"]) == ("alice", "gateway", "inventory")


@pytest.mark.parametrize(
    ("bound", "change"),
    [
        ("clients", {"clients": ("mobile", "we")}),
        ("audiences", {"audiences": ("orders",)}),
        ("scopes", {"scopes": ("pay",)}),
        ("token_types", {"token_types": ("transaction",)}),
    ],
)
async def test_each_bound_of_the_right_is_enforced(
    scene: Exchanging, bound: str, change: dict[str, Any]
) -> None:
    right = structs.replace(GATEWAY, **change)
    denied = await refusal(scene, PermissionDeniedError, await scene.token(), "gateway", right, **INSIDE)
    assert denied.metadata == {"permission": "exchange", "bound": bound}


async def test_without_a_right_tokens_of_others_and_other_audiences_are_refused(scene: Exchanging) -> None:
    token = await scene.token()
    assert (await refusal(scene, PermissionDeniedError, token, "gateway")).metadata == {
        "permission": "exchange"
    }
    await refusal(scene, PermissionDeniedError, token, "web", audience=("inventory",))
    await refusal(scene, PermissionDeniedError, token, "web", audience=("orders", "inventory"))
    right = structs.replace(GATEWAY, permission=Permission.ISSUE)
    await refusal(scene, PermissionDeniedError, token, "gateway", right, **INSIDE)


async def test_own_token_gets_another_audience_by_a_right_and_no_actor(scene: Exchanging) -> None:
    after = claims(await scene.exchange(await scene.token(), "web", GATEWAY, **INSIDE))
    assert (after["aud"], "act" in after) == ("inventory", False)


async def test_no_right_widens_the_scopes(scene: Exchanging) -> None:
    token = await scene.token(scopes=("read",))
    for client_id in ("web", "gateway"):
        refused = await refusal(
            scene, ScopeExceededError, token, client_id, EVERYTHING, scopes=("read", "write")
        )
        assert refused.metadata == {"field": "scopes"}
    bare = await scene.token(scopes=())
    await refusal(scene, ScopeExceededError, bare, "web", EVERYTHING, scopes=("read",))


async def test_registration_bounds_the_own_tokens_of_a_client(scene: Exchanging) -> None:
    token = await scene.token()
    administration = scene.node.core.client_administration
    await administration.update(Caller.system(), "web", {"audiences": ("mail",), "scopes": ("read",)}, 0.0)
    await scene.node.clients.refresh()
    await scene.exchange(token, "web", audience=("mail",), scopes=("read",))
    await refusal(scene, PermissionDeniedError, token, "web", audience=("orders",), scopes=("read",))
    assert (await refusal(scene, ServiceError, token, "web", audience=("mail",), scopes=("pay",))).metadata[
        "field"
    ] == "scopes"


async def test_user_with_the_name_of_the_client_gives_no_token_of_the_client(scene: Exchanging) -> None:
    """The token would give its holder the rights of the client at this service."""
    token = await scene.token(subject="gateway")
    await refusal(scene, PermissionDeniedError, token, "gateway", EVERYTHING, audience=(ISSUER,))
    await scene.exchange(token, "gateway", EVERYTHING, audience=("inventory",))
    other = await scene.token(subject="alice")
    await scene.exchange(other, "gateway", EVERYTHING, audience=(ISSUER,))


async def test_user_named_like_the_client_does_not_become_it_by_two_exchanges(scene: Exchanging) -> None:
    token = await scene.token("web", subject="gateway")
    between = await scene.exchange(token, "gateway", EVERYTHING, audience=("inventory",))
    assert claims(between)["sub"] == claims(between)["client_id"] == "gateway"
    await refusal(
        scene,
        PermissionDeniedError,
        between.tokens.access_token,
        "gateway",
        EVERYTHING,
        audience=(ISSUER,),
    )


async def test_token_of_a_client_for_itself_and_this_service_stays_one(scene: Exchanging) -> None:
    token = await scene.token("gateway", subject="gateway", audience=(ISSUER, "orders"))
    assert claims(await scene.exchange(token, "gateway", audience=(ISSUER,)))["aud"] == ISSUER


# --- Actors --------------------------------------------------------------------------------------------------------------------


async def test_client_becomes_the_actor_of_tokens_of_others(scene: Exchanging) -> None:
    exchanged = await scene.exchange(await scene.token(), "gateway", GATEWAY, **INSIDE)
    assert claims(exchanged)["act"] == {"sub": "gateway"}
    answer = await scene.node.validate(exchanged.tokens.access_token)
    assert isinstance(answer.claims, VerifiedClaims)
    assert answer.claims.actor == {"sub": "gateway"}
    assert "act" not in answer.claims.custom_claims


async def test_right_to_impersonate_leaves_the_client_out(scene: Exchanging) -> None:
    token = await scene.token()
    assert "act" not in claims(await scene.exchange(token, "gateway", IMPERSONATE))
    assert "act" not in claims(await scene.exchange(token, "gateway", EVERYTHING))
    # Two rights do not add up: the one that allows the audience does not allow to impersonate.
    narrow = structs.replace(IMPERSONATE, audiences=("orders",))
    assert "act" in claims(await scene.exchange(token, "gateway", narrow, GATEWAY, **INSIDE))


async def test_actor_token_names_the_actor(scene: Exchanging) -> None:
    token = await scene.token()
    actor: dict[str, Any] = {
        "actor_token": await scene.token("gateway", "bob"),
        "actor_token_type": ACCESS_TOKEN,
    }
    exchanged = await scene.exchange(token, "gateway", IMPERSONATE, **actor)
    assert claims(exchanged)["act"] == {"sub": "bob", "client_id": "gateway"}
    own: dict[str, Any] = {"actor_token": await scene.token("gateway", "gateway"), "actor_token_type": JWT}
    assert claims(await scene.exchange(token, "gateway", EVERYTHING, **own))["act"] == {"sub": "gateway"}


async def test_actor_token_of_another_client_needs_a_right_for_it(scene: Exchanging) -> None:
    token = await scene.token("gateway")
    actor: dict[str, Any] = {"actor_token": await scene.token("web", "bob"), "actor_token_type": ACCESS_TOKEN}
    denied = await refusal(scene, PermissionDeniedError, token, "gateway", **actor)
    assert denied.metadata == {"permission": "exchange", "bound": "clients"}
    exchanged = await scene.exchange(token, "gateway", GATEWAY, **actor)
    assert claims(exchanged)["act"] == {"sub": "bob", "client_id": "web"}


async def test_actors_are_nested_and_never_lost(scene: Exchanging) -> None:
    token = await scene.token()
    for number in range(4):
        await scene.register(f"s{number}")
        right = Right(permission=Permission.EXCHANGE, clients=("web", "s*"))
        token = (await scene.exchange(token, f"s{number}", right)).tokens.access_token
    chain = {"sub": "s3", "act": {"sub": "s2", "act": {"sub": "s1", "act": {"sub": "s0"}}}}
    assert claims_of(token)["act"] == chain
    # Neither a narrower token of the last one nor an impersonation forgets them.
    assert claims(await scene.exchange(token, "s3", scopes=("read",)))["act"] == chain
    assert claims(await scene.exchange(token, "gateway", EVERYTHING))["act"] == chain
    await scene.register("s4")
    refused = await refusal(
        scene, SubjectTokenInvalidError, token, "s4", Right(permission=Permission.EXCHANGE, clients=("s*",))
    )
    assert refused.metadata == {"parameter": "subject_token", "cause": "ACTORS"}


async def test_longest_actors_fit_into_a_token(scene: Exchanging) -> None:
    longest = '"' * 256
    actor: dict[str, Any] = {}
    for _ in range(MAX_ACTORS):
        actor = {"sub": longest, "client_id": longest, **({"act": actor} if actor else {})}
    grant = Grant(
        subject=longest,
        client_id=longest,
        audience=('"' * 512, '"' * 487),
        scopes=(),
        session_id="x" * 36,
        revision=2**63 - 1,
        auth_context=AuthContext('"' * 256, tuple(f"{number:02}{longest[:62]}" for number in range(16)), 0),
        confirmation=Confirmation(),
        custom_claims={},
        actor=actor,
    )
    minted = await scene.node.minter.access_token(grant, scene.node.clock.now(), 60)
    scene.node.minter.require_fit(
        grant, with_id_token=False, nonce=""
    )  # which does not count such a short one
    size = len(strict_json.encode(claims_of(minted.token)))
    assert size <= _MAX_PAYLOAD_BYTES
    assert (await scene.node.validate(minted.token)).reason is None


async def test_actor_token_that_names_an_actor_is_refused(scene: Exchanging) -> None:
    delegated = (await scene.exchange(await scene.token(), "gateway", GATEWAY, **INSIDE)).tokens.access_token
    refused = await refusal(
        scene,
        SubjectTokenInvalidError,
        await scene.token("gateway"),
        "gateway",
        actor_token=delegated,
        actor_token_type=ACCESS_TOKEN,
    )
    assert refused.metadata == {"parameter": "actor_token", "cause": "ACTORS"}


@pytest.mark.parametrize(
    ("may_act", "allowed"),
    [
        ({"sub": "gateway"}, True),
        ({"sub": "gateway", "iss": ISSUER, "client_id": "gateway"}, True),
        ({"sub": "other"}, False),
        ({"sub": "gateway", "iss": "https://other.example"}, False),
        ({"sub": "gateway", "client_id": "web"}, False),
        ({"sub": "gateway", "group": "x"}, False),
        ({"client_id": "gateway"}, False),
        ({}, False),
        ("gateway", False),
    ],
)
async def test_may_act_names_the_only_actor(scene: Exchanging, may_act: Any, *, allowed: bool) -> None:
    token = await scene.signed(may_act=may_act)
    if allowed:
        after = claims(await scene.exchange(token, "gateway", GATEWAY, **INSIDE))
        assert (after["act"], after["may_act"]) == ({"sub": "gateway"}, may_act)
    else:
        refused = await refusal(scene, SubjectTokenInvalidError, token, "gateway", GATEWAY, **INSIDE)
        assert refused.metadata["cause"] == "MAY_ACT"
    # The client of the token goes on as before, and the next one is bound as well.
    assert claims(await scene.exchange(token, "web"))["may_act"] == may_act
    actor: dict[str, Any] = {"actor_token": await scene.token("web", "bob"), "actor_token_type": ACCESS_TOKEN}
    await refusal(scene, SubjectTokenInvalidError, token, "web", **actor)


# --- Presented tokens ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameter", ["subject_token", "actor_token"])
@pytest.mark.parametrize("cause", ["REVOKED", "EXPIRED", "WRONG_TYPE", "MALFORMED", "BOUND", "TOO_LARGE"])
async def test_presented_token_must_be_valid_now(scene: Exchanging, parameter: str, cause: str) -> None:
    kinds = frozenset({TokenKind.ACCESS, TokenKind.ID})
    issued = await scene.node.issue("bob", "web", audience=("orders",), kinds=kinds)
    presented = issued.access_token
    if cause == "REVOKED":
        await scene.node.revoke(token=presented)
    elif cause == "EXPIRED":
        presented = await scene.token(access_token_ttl=1)
        scene.node.clock.elapsed += 1
    elif cause == "WRONG_TYPE":
        presented = issued.id_token
    elif cause == "MALFORMED":
        presented = "x"
    elif cause == "TOO_LARGE":
        presented = "x" * 20_000
    elif cause == "BOUND":
        presented = await scene.token(confirmation=Confirmation(jkt="x" * 43))
    if parameter == "subject_token":
        refused = await refusal(scene, SubjectTokenInvalidError, presented, "web")
    else:
        actor: dict[str, Any] = {"actor_token": presented, "actor_token_type": ACCESS_TOKEN}
        refused = await refusal(scene, SubjectTokenInvalidError, await scene.token(), "web", **actor)
    assert refused.metadata == {"parameter": parameter, "cause": cause}
    assert presented not in refused.message or len(presented) < 2


@pytest.mark.parametrize("target", ["session", "subject", "client", "everything"])
async def test_token_of_something_revoked_is_refused(scene: Exchanging, target: str) -> None:
    issued = await scene.node.issue("alice", "web", audience=("orders",), scopes=SCOPES)
    values = {"session": issued.session_id, "subject": "alice", "client": "web", "everything": ""}
    kept = (await scene.exchange(issued.access_token, "web")).tokens.access_token
    await scene.node.revoke(target=RevocationTarget[target.upper()], value=values[target])
    refused = await refusal(scene, SubjectTokenInvalidError, issued.access_token, "web")
    assert refused.metadata["cause"] == InvalidReason.REVOKED.value
    # The token that it was exchanged for ended with it.
    assert (await scene.node.validate(kept)).reason is InvalidReason.REVOKED


async def test_revocation_at_another_node_is_found(scene: Exchanging) -> None:
    node = scene.node
    other = await Node(node.clock, stores=node.stores, node_id="node-2", max_staleness=1e12).start()
    token = await scene.token()
    await other.revoke(token=token)
    assert (await node.validate(token)).reason is None
    running = asyncio.create_task(node.tailer.run())
    await refusal(scene, SubjectTokenInvalidError, token, "web")
    await cancelled(running)


async def test_revoked_client_exchanges_older_tokens_of_others_again(scene: Exchanging) -> None:
    token = await scene.token()
    before = (await scene.exchange(token, "gateway", GATEWAY, **INSIDE)).tokens.access_token
    await scene.node.revoke(target=RevocationTarget.CLIENT, value="gateway")
    after = (await scene.exchange(token, "gateway", GATEWAY, **INSIDE)).tokens.access_token
    assert (await scene.node.validate(before)).reason is InvalidReason.REVOKED
    assert (await scene.node.validate(after)).reason is None


async def test_new_token_knows_no_revocation_that_its_verdict_lacks(scene: Exchanging) -> None:
    """A subject that is revoked while the call counts its rates must not escape through the new token."""
    scene.node.policy = Policy(rates={(Operation.ISSUE, Bucket.CLIENT): Rate(10, 60)})
    token = await scene.token()
    exchange = scene.node.core.oauth.grants.exchange
    take = exchange._rates.take

    async def revoke_then_take(*args: Any, **kwargs: Any) -> None:
        await scene.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
        await take(*args, **kwargs)

    exchange._rates.take = revoke_then_take  # type: ignore[method-assign]
    exchanged = await scene.exchange(token, "web")
    assert (await scene.node.validate(exchanged.tokens.access_token)).reason is InvalidReason.REVOKED


async def test_client_disabled_during_the_call_gets_nothing(scene: Exchanging) -> None:
    scene.node.policy = Policy(rates={(Operation.ISSUE, Bucket.CLIENT): Rate(10, 60)})
    token = await scene.token()
    exchange = scene.node.core.oauth.grants.exchange
    take = exchange._rates.take

    async def disable_then_take(*args: Any, **kwargs: Any) -> None:
        await scene.node.core.client_administration.disable(Caller.system(), "gateway", 0.0)
        await take(*args, **kwargs)

    exchange._rates.take = disable_then_take  # type: ignore[method-assign]
    await refusal(scene, ClientDisabledError, token, "gateway", GATEWAY, **INSIDE)


# --- Admission, policy, form -------------------------------------------------------------------------------------------------------


async def test_client_without_the_grant_type_is_refused(scene: Exchanging) -> None:
    await refusal(scene, GrantTypeNotAllowedError, await scene.token("plain"), "plain")


async def test_public_client_narrows_its_tokens_but_gets_no_transaction_token(scene: Exchanging) -> None:
    token = await scene.token("public")
    await scene.exchange(token, "public", proof=Proof.CLIENT_ID, scopes=("read",))
    with pytest.raises(GrantTypeNotAllowedError):
        await scene.transaction(token, "public", EVERYTHING, proof=Proof.CLIENT_ID)


async def test_policy_that_requires_a_binding_refuses_the_exchange(scene: Exchanging) -> None:
    token = await scene.token()
    scene.node.policy = Policy(binding_required=True)
    await refusal(scene, BindingRequiredError, token, "web")


async def test_exchanges_count_as_issues(scene: Exchanging) -> None:
    token = await scene.token()
    scene.node.policy = Policy(rates={(Operation.ISSUE, Bucket.SUBJECT): Rate(2, 60)})
    await scene.exchange(token, "web")
    await scene.exchange(token, "web")
    await refusal(scene, RateLimitedError, token, "web")


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("requested_token_type", {"requested_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}),
        ("subject_token_type", {"subject_token_type": "urn:ietf:params:oauth:token-type:id_token"}),
        ("subject_token_type", {"subject_token_type": "urn:ietf:params:oauth:token-type:refresh_token"}),
        ("actor_token_type", {"actor_token": "x"}),
        ("actor_token_type", {"actor_token_type": ACCESS_TOKEN}),
        ("actor_token_type", {"actor_token": "x", "actor_token_type": TRANSACTION_TOKEN}),
        ("audience", {"audience": tuple(f"a{n}" for n in range(17))}),
        ("audience[0]", {"audience": ("x" * 513,)}),
        ("scopes[0]", {"scopes": ('a"b',)}),
        ("request_context", {"request_context": "{}"}),
        ("request_context", {"request_details": "{}"}),
    ],
)
async def test_request_of_the_wrong_form_is_refused(
    scene: Exchanging, field: str, change: dict[str, Any]
) -> None:
    refused = await refusal(scene, InvalidRequestError, await scene.token(), "web", **change)
    assert isinstance(refused, InvalidRequestError)
    assert [violation.field for violation in refused.violations] == [field]


async def test_audit_event_names_subject_actor_origin_and_session(scene: Exchanging) -> None:
    issued = await scene.node.issue("alice", "web", audience=("orders",), scopes=SCOPES)
    before = claims_of(issued.access_token)
    actor: dict[str, Any] = {
        "actor_token": await scene.token("gateway", "bob"),
        "actor_token_type": ACCESS_TOKEN,
    }
    recorded: list[Any] = []
    scene.node.audit.record = recorded.append  # type: ignore[assignment]
    exchanged = await scene.exchange(issued.access_token, "gateway", GATEWAY, **INSIDE, **actor)
    [event] = recorded
    assert event.action.value == "token.exchanged"
    assert event.action.category.value == "routine"
    target = event.target
    assert (target.kind, target.id) == ("token", exchanged.tokens.token_id)
    assert (target.subject, target.session_id, target.client_id) == ("alice", issued.session_id, "gateway")
    assert (event.actor.client_id, event.actor.on_behalf_of) == ("gateway", "bob")
    assert event.fields == {
        "token_type": "ACCESS",
        "classification": "internal",
        "from_client": "web",
        "from_token": before["jti"],
        "actors": 1,
    }


def test_requests_show_no_token() -> None:
    request = ExchangeRequest(
        subject_token="secret-1", subject_token_type=ACCESS_TOKEN, actor_token="secret-2"
    )
    assert "secret" not in repr(request)
