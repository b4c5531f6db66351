"""Assertions of trusted issuers become tokens, once, and within what client, issuer and assertion allow."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support.memory_stores import MemoryStores
from tests.unit.core.grants.assertion_scene import (
    ACCOUNT,
    ACME,
    API,
    APP,
    CLUSTER,
    MAIL,
    OTHER_APP,
    OTHER_KEY,
    POLICY,
    PUBLIC,
    SVID,
    Scene,
    client,
)
from tests.unit.core.node import ISSUER, Intercepted, Node
from tests.unit.core.virtual_time import ManualClock, cancelled
from token_service.core.access.caller import Caller, Proof
from token_service.core.access.rights import Rights
from token_service.core.clients.client import JWT_BEARER, AuthMethod, ClientMetadata, SubjectType
from token_service.core.issuing.commands import IssuedTokens
from token_service.errors import (
    CallerUnauthenticatedError,
    ForeignKeysUnavailableError,
    GrantTypeNotAllowedError,
    GrantTypeUnknownError,
    InvalidReason,
    PolicyViolationError,
)
from token_service.tokens import base64url
from token_service.tokens.claims import AuthContext, VerifiedClaims
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.secret import Secret

MINUTE = 60


@pytest.fixture
async def scene() -> Scene:
    return await Scene.make()


async def claims_of(scene: Scene, tokens: IssuedTokens) -> VerifiedClaims:
    answer = await scene.node.validate(tokens.access_token)
    assert isinstance(answer.claims, VerifiedClaims), answer.reason
    return answer.claims


async def test_session_of_another_issuer_is_none_here(scene: Scene) -> None:
    issued = await scene.grant(scene.id_token(sid="8a2d5b0e-0000-4000-8000-000000000000"))
    assert (issued.session_id, (await claims_of(scene, issued)).session_id) == ("", "")


async def test_id_token_becomes_an_access_token_of_the_mapped_subject(scene: Scene) -> None:
    token = scene.id_token(
        acr="urn:mfa", amr=["pwd", "otp"], auth_time=int(scene.node.clock.now()) - 5,
        realm={"roles": ["staff", "acme-admins", "root", 5]}, groups="blue", email="alice@acme.example",
    )  # fmt: skip
    issued = await scene.grant(token, "orders:read")
    claims = await claims_of(scene, issued)
    assert (claims.subject, claims.client_id, claims.audience) == ("acme:alice", "app", (API,))
    assert claims.scopes == set(issued.scopes) == {"orders:read"}
    assert claims.custom_claims == {"roles": ["admin", "staff"], "groups": ["blue"]}
    assert claims.auth_context == AuthContext("urn:mfa", ("pwd", "otp"), int(scene.node.clock.now()) - 5)
    assert (issued.refresh_token, issued.id_token, issued.session_id) == ("", "", "")


async def test_record_names_client_issuer_and_kind(scene: Scene) -> None:
    await scene.grant(scene.id_jag(), "orders:read")
    (event,) = scene.node.audit.named("token.issued")
    assert (event["client_id"], event["subject"], event["grant_type"]) == ("app", "acme:alice", JWT_BEARER)
    assert (event["trusted_issuer"], event["assertion"]) == ("acme", "id_jag")


async def test_workload_tokens_become_access_tokens(scene: Scene) -> None:
    account = await claims_of(scene, await scene.grant(scene.account(), caller=PUBLIC))
    assert (account.subject, account.client_id) == (f"cluster:{ACCOUNT}", "public")
    assert account.scopes == {"orders:read"}
    svid = scene.signed({"sub": SVID, "aud": ISSUER}, typ="JOSE", jti=None)
    assert (await claims_of(scene, await scene.grant(svid))).subject == f"mesh:{SVID}"


# --- Each check of a profile refuses alone ---------------------------------------------------------------------------

NOW = int(ManualClock().now())
ANY: dict[str, tuple[dict[str, Any], str]] = {
    "sub": ({"sub": None}, "lacks the claim sub|lacks sub"),
    "sub of another type": ({"sub": 5}, "lacks sub"),
    "audience": ({"aud": "https://other"}, "for another audience"),
    "further audience": ({"aud": ["shop-at-acme", ISSUER, "https://other"]}, "for another audience"),
    "no audience": ({"aud": None}, "for another audience"),
    "signature": ({"key": OTHER_KEY}, "the signature does not verify"),
    "type": ({"typ": "at+jwt"}, "typ is none of the expected ones"),
    "exp": ({"exp": NOW}, "has expired"),
    "no exp": ({"exp": None}, "exp is missing"),
    "far exp": ({"exp": NOW + 26 * 3600}, "exp is more than 90000 s ahead"),
    "nbf": ({"nbf": NOW + 60}, "nbf is ahead"),
    "iat": ({"iat": NOW + 60}, "iat is ahead"),
    "no iat": ({"iat": None}, "lacks iat"),
    "age": ({"iat": NOW - 3601}, "issued more than 3600 s ago"),
    "jti": ({"jti": "j" * 257}, "jti is longer"),
    "key": ({"cnf": {"jkt": "x"}}, "bound to a key"),
    "actor": ({"act": {"sub": "mallory"}}, "has an actor"),
    "auth_time": ({"auth_time": NOW + 60}, "auth_time is ahead"),
    "issuer": ({"iss": "https://other"}, "issuer is not trusted"),
    "long subject": ({"sub": "a" * 257}, "subject"),
    "invisible subject": ({"sub": "a\nb"}, "subject"),
    "long acr": ({"acr": "a" * 257}, "auth_context.acr"),
}  # fmt: skip
ID_TOKEN: dict[str, tuple[dict[str, Any], str]] = {
    "azp": ({"azp": "other-at-acme"}, "azp is another application"),
    "logout token": ({"events": {}}, "has events"),
    "access token with scope": ({"scope": "read"}, "has scope"),
    "access token with scp": ({"scp": "read"}, "has scp"),
    "access token by its use": ({"token_use": "access"}, "token_use"),
}
ID_JAG: dict[str, tuple[dict[str, Any], str]] = {
    "jti": ({"jti": None}, "lacks jti"),
    "client": ({"client_id": "other"}, "client_id is not the client"),
    "no client": ({"client_id": None}, "client_id is not the client"),
    "two audiences": ({"aud": [ISSUER, ISSUER]}, "more than one audience"),
    "tenant": ({"tenant": "t"}, "has tenant"),
    "tenant here": ({"aud_tenant": "t"}, "has aud_tenant"),
    "details": ({"authorization_details": []}, "authorization_details"),
    "resource": ({"resource": 5}, "resource is neither"),
    "resources": ({"resource": [API, 5]}, "resource is neither"),
}


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        *(("id_token", case) for case in {**ANY, **ID_TOKEN}),
        *(("id_jag", case) for case in {**ANY, **ID_JAG} if case != "type"),
        *(("account", case) for case in ANY if case != "type"),
    ],
)
async def test_each_check_refuses_alone(scene: Scene, kind: str, case: str) -> None:
    changes, problem = {**ANY, **(ID_TOKEN if kind == "id_token" else ID_JAG if kind == "id_jag" else {})}[
        case
    ]
    make = getattr(scene, kind)
    told = await scene.refused(make(**changes), "orders:read")
    assert any(part in told for part in problem.split("|")), told
    # The assertion without the change is accepted, so no other check refuses it.
    assert (await scene.grant(make(), "orders:read")).access_token


async def test_id_jag_is_recognized_by_its_type_alone(scene: Scene) -> None:
    assert "for another audience" in await scene.refused(scene.id_jag(typ="JWT"))
    assert "for another audience" in await scene.refused(scene.id_token(typ="application/oauth-id-jag+jwt"))
    assert "may not issue the kind id_jag" in await scene.refused(
        scene.signed({"iss": CLUSTER, "sub": ACCOUNT, "aud": ISSUER}, typ="oauth-id-jag+jwt")
    )
    scene.trust(
        {"acme": {**without(POLICY["acme"], "audiences", "refresh_tokens"), "assertions": ["id_jag"]}}
    )
    assert "typ is not oauth-id-jag+jwt" in await scene.refused(scene.id_token())


def without(entry: dict[str, Any], *names: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name not in names}


async def test_authentication_may_be_bounded_in_age(scene: Scene) -> None:
    scene.trust({"acme": {**POLICY["acme"], "max_age": "5m", "max_auth_age": "10m"}})
    now = int(scene.node.clock.now())
    assert "lacks auth_time" in await scene.refused(scene.id_token())
    assert "authenticated more than 600 s ago" in await scene.refused(scene.id_token(auth_time=now - 601))
    assert "issued more than 300 s ago" in await scene.refused(scene.id_token(auth_time=now, iat=now - 301))
    assert (await scene.grant(scene.id_token(auth_time=now - 600, iat=now - 300))).access_token


async def test_garbage_and_oversized_assertions_are_refused(scene: Scene) -> None:
    assert "not a JWS" in await scene.refused("x")
    assert "longer than 8192 bytes" in await scene.refused("x" * 8193)


async def test_unavailable_keys_do_not_use_up_an_assertion(scene: Scene) -> None:
    token = scene.id_token()
    scene.keys.error = ForeignKeysUnavailableError(retry_after=1.0)
    with pytest.raises(ForeignKeysUnavailableError):
        await scene.grant(token)
    scene.keys.error = None
    assert (await scene.grant(token)).access_token


# --- Clients ----------------------------------------------------------------------------------------------------------


async def test_id_jag_needs_a_client_that_authenticates_itself(scene: Scene) -> None:
    with pytest.raises(GrantTypeNotAllowedError, match="authenticates itself"):
        await scene.grant(scene.id_jag(client_id="public"), caller=PUBLIC)
    assert (await scene.grant(scene.id_token(), caller=PUBLIC)).access_token


async def test_issuer_may_be_trusted_for_some_clients_only(scene: Scene) -> None:
    scene.trust({"acme": {**POLICY["acme"], "clients": ["app"]}})
    token = scene.id_token()
    assert "not trusted for this client" in await scene.refused(token, caller=OTHER_APP)
    assert (await scene.grant(token)).access_token


async def test_only_registered_clients_with_the_grant_type_are_served(scene: Scene) -> None:
    with pytest.raises(CallerUnauthenticatedError):
        await scene.grant(scene.id_token(), caller=Caller("x", Rights.everything(), Proof.CERTIFICATE))
    scene.trust({})
    with pytest.raises(GrantTypeUnknownError, match="trusted_issuers"):
        await scene.grant(scene.id_token())


async def test_no_assertion_makes_a_token_of_the_client_for_itself(scene: Scene) -> None:
    scene.trust({"acme": {**POLICY["acme"], "subject": "{sub}"}})
    assert "the client itself" in await scene.refused(scene.id_token(sub="app"))
    assert (await claims_of(scene, await scene.grant(scene.id_token(sub="alice")))).subject == "alice"


# --- Scopes, audiences, kinds -----------------------------------------------------------------------------------------


async def test_scopes_stay_within_client_issuer_and_assertion(scene: Scene) -> None:
    # Without a request: what all have in common, and never offline_access.
    assert (await scene.grant(scene.id_token())).scopes == ("orders:read", "orders:write", "openid")
    assert (await scene.grant(scene.id_jag(scope="orders:write admin other"))).scopes == ("orders:write",)
    assert (await scene.grant(scene.id_jag(scope=""))).scopes == ()
    for token, scope in (
        (scene.id_token(), "unregistered"),
        (scene.id_token(), "admin"),
        (scene.id_jag(scope="orders:read"), "orders:write"),
        (scene.account(), "orders:write"),
    ):
        with pytest.raises(PolicyViolationError) as error:
            await scene.grant(token, scope)
        assert error.value.metadata == {"field": "scopes"}
        assert (await scene.grant(token, "orders:read")).scopes == ("orders:read",)  # it was not used up


async def test_audience_stays_within_client_and_assertion(scene: Scene) -> None:
    issued = await scene.grant(scene.id_jag(resource=MAIL), audience=())
    assert (await claims_of(scene, issued)).audience == (MAIL,)
    issued = await scene.grant(scene.id_jag(resource=[API, MAIL]), audience=(API,))
    assert (await claims_of(scene, issued)).audience == (API,)
    for token, audience in (
        (scene.id_jag(resource=MAIL), (API,)),
        (scene.id_jag(resource="https://other"), ()),
        (scene.id_token(), ("https://other",)),
    ):
        with pytest.raises(PolicyViolationError) as error:
            await scene.grant(token, audience=audience)
        assert error.value.metadata == {"field": "audience"}


async def test_openid_gives_an_id_token(scene: Scene) -> None:
    issued = await scene.grant(scene.id_token(acr="urn:mfa"), "openid")
    answer = await scene.node.validate(issued.id_token, audience="app")
    assert isinstance(answer.claims, VerifiedClaims)
    assert (answer.claims.subject, answer.claims.payload["acr"]) == ("acme:alice", "urn:mfa")


async def test_offline_access_gives_a_session_only_where_everyone_allows_it(scene: Scene) -> None:
    issued = await scene.grant(scene.id_token(), "offline_access", "orders:read")
    assert issued.scopes == ("offline_access", "orders:read")
    refreshed = await scene.node.refresh(issued.refresh_token, "app")
    assert (await claims_of(scene, refreshed)).subject == "acme:alice"
    for assertion, caller in (
        (scene.id_jag(), APP),  # never for an ID-JAG
        (scene.id_token(), OTHER_APP),  # not registered for refresh_token
    ):
        issued = await scene.grant(assertion, "offline_access", "orders:read", caller=caller)
        assert (issued.refresh_token, issued.scopes) == ("", ("orders:read",))
    scene.trust({"acme": without(POLICY["acme"], "refresh_tokens")})
    issued = await scene.grant(scene.id_token(), "offline_access", "orders:read")
    assert (issued.refresh_token, issued.scopes) == ("", ("orders:read",))


# --- Once -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jti", ["one", None])
async def test_of_concurrent_presentations_on_two_nodes_one_succeeds(jti: str | None) -> None:
    clock = ManualClock()
    stores = MemoryStores(clock)
    scene = await Scene.make(stores=stores)
    other = Scene(await Node(clock, stores=stores, max_staleness=1e12, node_id="node-2", seed=2).start())
    await other.node.core.clients.refresh()
    token = scene.id_token(jti=jti)
    outcomes = await asyncio.gather(
        *(each.grant(token) for each in (scene, other) * 4), return_exceptions=True
    )
    failures = [str(each) for each in outcomes if isinstance(each, Exception)]
    assert len(failures) == 7
    assert set(failures) == {"the assertion is not accepted: it was used before"}
    # Neither another client nor another name of the issuer can present it again.
    assert "used before" in await scene.refused(token, caller=OTHER_APP)
    scene.trust({"renamed": POLICY["acme"]})
    assert "used before" in await scene.refused(token)


async def test_second_form_of_a_signature_is_no_second_assertion(scene: Scene) -> None:
    token = scene.id_token(jti=None)
    assert (await scene.grant(token)).access_token
    head, _, signature = token.rpartition(".")
    assert "used before" in await scene.refused(f"{head}.{mirrored(signature)}")


def mirrored(signature: str) -> str:
    """Return the other ECDSA signature that verifies: (r, n - s)."""

    order = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
    raw = base64url.decode(signature.encode())
    s = order - int.from_bytes(raw[32:], "big")
    return base64url.encode(raw[:32] + s.to_bytes(32, "big"))


async def test_token_ids_of_two_issuers_do_not_clash(scene: Scene) -> None:
    assert (await scene.grant(scene.id_token(jti="1"))).access_token
    assert (await scene.grant(scene.account(jti="1"))).access_token
    assert "used before" in await scene.refused(scene.id_jag(jti="1"))


async def test_workload_token_may_be_reused_if_the_issuer_says_so(scene: Scene) -> None:
    svid = scene.signed({"sub": SVID, "aud": ISSUER})
    assert (await scene.grant(svid)).access_token
    assert (await scene.grant(svid)).access_token


# --- Revocation -------------------------------------------------------------------------------------------------------


async def test_revoked_subject_must_authenticate_again(scene: Scene) -> None:
    before = scene.id_token()
    scene.node.clock.elapsed += 2
    await scene.node.revoke(target=RevocationTarget.SUBJECT, value="acme:alice")
    assert "its subject was revoked" in await scene.refused(before)
    assert (await scene.grant(scene.id_token(sub="bob", iat=NOW))).access_token
    scene.node.clock.elapsed += 2
    assert (await scene.grant(scene.id_token())).access_token


async def test_revocation_at_another_node_counts_at_once() -> None:
    clock = ManualClock()
    stores = MemoryStores(clock)
    scene = await Scene.make(stores=stores)
    other = await Node(clock, stores=stores, max_staleness=1e12, node_id="node-2", seed=2).start()
    token = scene.id_token()
    clock.elapsed += 2
    await other.revoke(target=RevocationTarget.EVERYTHING)
    tailer = asyncio.create_task(scene.node.tailer.run())
    assert "its subject was revoked" in await scene.refused(token)
    await cancelled(tailer)


@pytest.mark.parametrize("scopes", [("orders:read",), ("orders:read", "offline_access")])
async def test_subject_revoked_while_its_assertion_is_judged_gets_no_live_token(
    scopes: tuple[str, ...],
) -> None:
    clock = ManualClock()
    stores = MemoryStores(clock)
    used_ids = Intercepted(stores.used_ids)
    scene = await Scene.make(stores=stores)
    scene.grant_of._used_ids = used_ids

    async def revoke() -> None:
        await scene.node.revoke(target=RevocationTarget.SUBJECT, value="acme:alice")

    used_ids.after["use"] = revoke
    token = scene.id_token()
    if "offline_access" in scopes:
        assert "revoked since it was made" in await scene.refused(token, *scopes)
    else:
        issued = await scene.grant(token, *scopes)
        answer = await scene.node.validate(issued.access_token)
        assert answer.reason is not None
        assert answer.reason.value == "REVOKED"


# --- ID tokens of this service ----------------------------------------------------------------------------------------


async def test_own_id_token_serves_once_and_only_its_client(scene: Scene) -> None:
    own = await scene.own_id_token()
    assert "AUDIENCE" in await scene.refused(own.id_token, caller=OTHER_APP)
    issued = await scene.grant(own.id_token, "orders:read", "openid")
    claims = await claims_of(scene, issued)
    assert (claims.subject, claims.client_id, *claims.scopes) == ("bob", "app", "orders:read")
    assert claims.session_id == issued.session_id == own.session_id
    # Else each ID token would give the next one, and the authorization would never end.
    assert (issued.id_token, issued.refresh_token) == ("", "")
    assert "used before" in await scene.refused(own.id_token)
    await scene.node.revoke(target=RevocationTarget.SESSION, value=own.session_id)
    assert (await scene.node.validate(issued.access_token)).reason is InvalidReason.REVOKED


async def test_own_access_token_is_no_assertion(scene: Scene) -> None:
    metadata = ClientMetadata(token_endpoint_auth_method=AuthMethod.NONE, grant_types=(JWT_BEARER,))
    await scene.node.core.client_administration.create(Caller.system(), "any", metadata, NOW)
    access = (await scene.node.issue("bob", "any", audience=("any",))).access_token
    assert "WRONG_TYPE" in await scene.refused(access, caller=client("any"))


async def test_ended_session_refuses_its_id_token(scene: Scene) -> None:
    for target in (RevocationTarget.SESSION, RevocationTarget.SUBJECT, RevocationTarget.CLIENT):
        own = await scene.own_id_token()
        value = {"SESSION": own.session_id, "SUBJECT": "bob", "CLIENT": "app"}[target.name]
        await scene.node.revoke(target=target, value=value)
        assert await scene.refused(own.id_token) == "the ID token of this service is REVOKED"


class NoSectors:
    async def redirect_uris(self, url: str) -> list[str]:
        raise AssertionError(url)


async def test_own_id_token_with_a_pairwise_subject_stands_for_the_subject() -> None:
    scene = await Scene.make(pairwise_key=Secret(b"p" * 32), sectors=NoSectors())
    metadata = ClientMetadata(
        token_endpoint_auth_method=AuthMethod.NONE,
        grant_types=(JWT_BEARER,),
        subject_type=SubjectType.PAIRWISE,
        redirect_uris=("https://pair.example/cb",),
    )
    await scene.node.core.client_administration.create(Caller.system(), "pair", metadata, NOW)
    first, second = await scene.own_id_token("pair"), await scene.own_id_token("pair")
    issued = await scene.grant(first.id_token, caller=client("pair"), audience=())
    assert (await claims_of(scene, issued)).subject == "bob"
    await scene.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    assert "is REVOKED" in await scene.refused(second.id_token, caller=client("pair"))


async def test_own_id_token_needs_an_entry(scene: Scene) -> None:
    own = await scene.own_id_token()
    scene.trust(without(dict(POLICY), "self"))
    assert "issuer is not trusted" in await scene.refused(own.id_token)
    # Another issuer that knows the name of this service can't speak for it.
    assert "issuer is not trusted" in await scene.refused(scene.id_token(iss=ISSUER, aud="app"))
    assert ACME != ISSUER
