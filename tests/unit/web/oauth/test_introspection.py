"""The introspection endpoint: who may ask about which token, and the members of the response."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.core.jwts import claims_of
from tests.unit.core.node import ISSUER
from tests.unit.core.validation.test_introspector import signed
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.issuing.commands import ISSUABLE
from token_service.core.policies.rights import Permission
from token_service.errors import StoreUnavailableError
from token_service.tokens.claims import AuthContext, Confirmation, TokenKind
from token_service.tokens.revocation import RevocationTarget
from token_service.tokens.verifier import MAX_TOKEN_BYTES

INACTIVE = b'{"active":false}'


@pytest.fixture(autouse=True)
async def clients(app: OAuthApp) -> None:
    """Register a caller with the right to validate, and clients without it."""
    await app.register("gateway", Permission.VALIDATE)
    for client_id in ("web", "api", "other"):
        await app.register(client_id)
    await app.register_public("public")


async def introspect(
    app: OAuthApp, token: str, client_id: str = "gateway", **parameters: str
) -> httpx.Response:
    return await app.post("/introspect", {"token": token, **parameters}, client_id=client_id)


# --- The response --------------------------------------------------------------------------------------------------------------


async def test_response_for_an_access_token_has_its_claims(app: OAuthApp) -> None:
    issued = await app.node.issue(
        client_id="web",
        scopes=("read", "write"),
        audience=("api",),
        auth_context=AuthContext("urn:mfa", ("pwd", "otp"), 1_700_000_000),
        custom_claims={
            "roles": ["admin"], "groups": ["g"], "entitlements": ["e"], "tenant": {"id": 1}, "nothing": None,
            "active": False, "token_type": "evil", "username": "mallory",
        },
    )  # fmt: skip
    answer = await introspect(app, issued.access_token)
    assert (answer.status_code, answer.headers["content-type"], answer.headers["cache-control"]) == (
        200,
        "application/json",
        "no-store",
    )
    claims = claims_of(issued.access_token)
    assert answer.json() == {
        "active": True,
        "token_use": "access_token",
        "token_type": "Bearer",
        "client_id": "web",
        "scope": "read write",
        "iss": ISSUER,
        "sub": "alice",
        "aud": "api",
        "jti": issued.token_id,
        "sid": issued.session_id,
        **{name: claims[name] for name in ("exp", "iat", "nbf")},
        "acr": "urn:mfa",
        "amr": ["pwd", "otp"],
        "auth_time": 1_700_000_000,
        "roles": ["admin"],
        "groups": ["g"],
        "entitlements": ["e"],
        "tenant": {"id": 1},
    }


@pytest.mark.parametrize(
    ("confirmation", "token_type", "cnf"),
    [
        (Confirmation(jkt="k" * 43), "DPoP", {"jkt": "k" * 43}),
        (Confirmation(x5t_s256="x" * 43), "Bearer", {"x5t#S256": "x" * 43}),
    ],
)
async def test_response_for_a_bound_token_names_its_key(
    app: OAuthApp, confirmation: Confirmation, token_type: str, cnf: dict[str, str]
) -> None:
    issued = await app.node.issue(client_id="web", confirmation=confirmation)
    access = (await introspect(app, issued.access_token)).json()
    assert (access["token_type"], access["cnf"]) == (token_type, cnf)
    refresh = (await introspect(app, issued.refresh_token)).json()
    assert ("token_type" in refresh, refresh["cnf"]) == (False, cnf)


async def test_response_tells_the_kind_of_each_token(app: OAuthApp) -> None:
    issued = await app.node.issue(
        client_id="web",
        kinds=ISSUABLE,
        scopes=("read",),
        audience=("api", "b"),
        auth_context=AuthContext("a"),
        custom_claims={"tenant": "t"},
        nonce="n",
    )
    now = int(app.clock.now())
    opaque = {
        "active": True,
        "client_id": "web",
        "scope": "read",
        "iss": ISSUER,
        "sub": "alice",
        "aud": ["api", "b"],
        "iat": now,
        "exp": now + int(min(app.node.policy.idle_timeout, app.node.policy.refresh_token_ttl)),
        "sid": issued.session_id,
        "acr": "a",
        "tenant": "t",
    }
    for token, use in ((issued.refresh_token, "refresh_token"), (issued.session_token, "session_token")):
        for hint in ("", "access_token", "refresh_token", "unknown"):  # RFC 7662, section 2.1: only a hint
            answer = await introspect(app, token, token_type_hint=hint)
            assert answer.json() == {**opaque, "token_use": use}
    id_token = (await introspect(app, issued.id_token)).json()
    assert (id_token["token_use"], id_token["aud"], id_token["acr"]) == ("id_token", "web", "a")
    assert not {"nonce", "at_hash", "azp", "token_type", "rev"} & set(id_token)


async def test_inactive_tokens_get_one_answer_without_a_reason(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web", kinds=ISSUABLE)
    tokens = (issued.access_token, issued.id_token, issued.refresh_token, issued.session_token)
    await app.node.revoke(target=RevocationTarget.SUBJECT, value="alice")
    await app.node.revoke(target=RevocationTarget.SESSION, value=issued.session_id)
    flawed = (
        "x", "\0", "a.b.c", "é", "\U0001f600" * 100, "tsrt_" + "A" * 100, issued.refresh_token[:-1], " ",
        "x" * (MAX_TOKEN_BYTES + 1), issued.access_token[:-2] + "AA", "." * 5000,
    )  # fmt: skip
    for token in (*tokens, *flawed):
        answer = await introspect(app, token)
        assert (answer.status_code, answer.content) == (200, INACTIVE), token


# --- The caller ----------------------------------------------------------------------------------------------------------------


async def test_client_learns_only_about_tokens_it_has_a_part_in(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web", kinds=ISSUABLE, audience=("api", "x"))
    mine = {"access_token", "id_token", "refresh_token", "session_token"}
    seen: dict[str, set[str]] = {
        "gateway": mine,
        "web": mine,
        "api": {"access_token", "session_token"},  # a refresh token is for its client and this service only
        "other": set(),
    }
    for client_id, expected in seen.items():
        answers = [await introspect(app, getattr(issued, name), client_id) for name in sorted(mine)]
        found = {answer.json()["token_use"] for answer in answers if answer.json()["active"]}
        assert found == expected, client_id
        assert {answer.content for answer in answers if not answer.json()["active"]} <= {INACTIVE}


async def test_question_of_an_outsider_does_not_use_a_session(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web", kinds=ISSUABLE, audience=("api",))
    app.clock.elapsed += app.node.policy.idle_timeout / 2
    await introspect(app, issued.session_token, "other")
    assert (await app.node.session(issued.session_id)).last_use_time < app.clock.now()
    await introspect(app, issued.session_token, "api")
    assert (await app.node.session(issued.session_id)).last_use_time == app.clock.now()


async def test_public_client_cannot_introspect_even_its_own_tokens(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="public")
    answer = await app.post("/introspect", {"token": issued.refresh_token, "client_id": "public"})
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")


async def test_callers_prove_themselves_with_an_assertion_or_a_token_too(app: OAuthApp) -> None:
    await app.register_assertion_client("signed", Permission.VALIDATE)
    issued = await app.node.issue(client_id="web")
    answer = await app.post("/introspect", {"token": issued.access_token, **app.assertion("signed")})
    assert (answer.status_code, answer.json()["active"]) == (200, True)
    own = (await app.token("gateway")).json()["access_token"]
    bearer = {"Authorization": f"Bearer {own}"}
    answer = await app.post("/introspect", {"token": issued.access_token}, headers=bearer)
    assert (answer.status_code, answer.json()["active"]) == (200, True)
    of_alice = {"Authorization": f"Bearer {issued.access_token}"}
    refused = await app.post("/introspect", {"token": issued.access_token}, headers=of_alice)
    assert (refused.status_code, refused.json()["error"]) == (401, "invalid_token")
    assert refused.headers["www-authenticate"] == 'Bearer realm="token-service", error="invalid_token"'


async def test_registered_endpoint_is_an_audience_of_assertions(app: OAuthApp) -> None:
    await app.register_assertion_client("older", Permission.VALIDATE, accepts_endpoint_audience=True)
    for endpoint in ("/token", "/introspect", "/revoke"):
        answer = await app.post(
            "/introspect", {"token": "x", **app.assertion("older", aud=ISSUER + endpoint)}
        )
        assert answer.content == INACTIVE
    await app.register_assertion_client("newer", Permission.VALIDATE)
    for wrong in (
        app.assertion("older", aud=f"{ISSUER}/other"),
        app.assertion("newer", aud=f"{ISSUER}/introspect"),
    ):
        assert (await app.post("/introspect", {"token": "x", **wrong})).status_code == 401


async def test_right_that_ends_counts_at_once(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")
    assert (await introspect(app, issued.access_token)).json()["active"]
    await app.node.core.client_administration.disable(Caller.system(), "gateway", app.clock.now())
    assert (await introspect(app, issued.access_token)).status_code == 401


# --- The request ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("parameters", [{}, {"token": ""}, {"token": ["x", "x"]}])
async def test_request_without_one_token_is_invalid(app: OAuthApp, parameters: dict[str, Any]) -> None:
    answer = await app.post("/introspect", parameters, client_id="gateway")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_token_in_the_url_is_refused(app: OAuthApp) -> None:
    for method in ("GET", "POST"):
        answer = await app.http.request(method, "/introspect?token=x", headers=app.basic("gateway"))
        assert answer.status_code in {400, 405}


async def test_unknown_state_is_no_verdict(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")

    async def fail(_: Any) -> None:
        raise StoreUnavailableError

    app.node.introspector._sessions = type("Down", (), {"get": staticmethod(fail)})()
    answer = await introspect(app, issued.refresh_token)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "active" not in answer.json()


async def test_node_that_is_behind_gives_no_verdict() -> None:
    app = await OAuthApp.start(max_staleness=5.0)
    await app.register("web")
    issued = await app.node.issue(client_id="web")
    app.clock.elapsed += 6
    answer = await introspect(app, issued.access_token, "web")
    assert (answer.status_code, answer.json()["reason"]) == (503, "REPLICA_STALE")
    await app.close()


async def test_response_names_the_actors(app: OAuthApp) -> None:
    actor = {"sub": "web", "act": {"sub": "api"}}
    assert (await introspect(app, await signed(app.node, act=actor))).json()["act"] == actor


async def test_transaction_token_is_no_active_token(app: OAuthApp) -> None:
    token = await signed(app.node, {"typ": "txntoken+jwt"}, txn="x-1", req_wl="web", client_id=None, jti=None)
    assert (await app.node.validate(token, kind=TokenKind.TRANSACTION)).reason is None
    for hint in ("", "access_token", "transaction_token"):
        assert (await introspect(app, token, token_type_hint=hint)).content == INACTIVE
