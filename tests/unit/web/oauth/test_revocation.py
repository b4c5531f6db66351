"""The revocation endpoint: what a client can revoke, and that it learns nothing else."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.core.node import Intercepted, raising
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.issuing.commands import ISSUABLE, IssuedTokens
from token_service.core.policies.policy import DAY
from token_service.core.policies.rights import Permission
from token_service.core.sessions.session import SessionState
from token_service.errors import SigningUnavailableError, StoreUnavailableError


@pytest.fixture(autouse=True)
async def clients(app: OAuthApp) -> None:
    for client_id in ("web", "other"):
        await app.register(client_id)
    await app.register_public("public")


async def revoke(app: OAuthApp, token: str, client_id: str = "web", **parameters: str) -> httpx.Response:
    return await app.post("/revoke", {"token": token, **parameters}, client_id=client_id)


def assert_done(answer: httpx.Response) -> None:
    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["cache-control"] == "no-store"


async def active(app: OAuthApp, issued: IssuedTokens) -> dict[str, bool]:
    """Return which tokens are active, by kind."""
    tokens = {
        "access": issued.access_token,
        "id": issued.id_token,
        "refresh": issued.refresh_token,
        "session": issued.session_token,
    }
    return {name: (await app.node.validate(token)).reason is None for name, token in tokens.items() if token}


# --- Effects ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("hint", ["", "access_token", "refresh_token", "unknown"])
@pytest.mark.parametrize("kind", ["access_token", "id_token", "refresh_token", "session_token"])
async def test_own_token_is_revoked_whatever_the_hint(app: OAuthApp, kind: str, hint: str) -> None:
    issued = await app.node.issue(client_id="web", kinds=ISSUABLE)
    assert_done(await revoke(app, getattr(issued, kind), token_type_hint=hint))
    left = {name for name, is_active in (await active(app, issued)).items() if is_active}
    opaque = {"refresh_token", "session_token"}
    # RFC 7009, section 2.1: with a refresh token, all tokens of its grant are revoked.
    assert left == (
        set() if kind in opaque else {"access", "id", "refresh", "session"} - {kind.removesuffix("_token")}
    )
    assert_done(await revoke(app, getattr(issued, kind)))  # again


async def test_superseded_refresh_token_revokes_its_session(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")
    successor = await app.node.refresh(issued.refresh_token)
    assert_done(await revoke(app, issued.refresh_token))
    assert await active(app, successor) == {"access": False, "refresh": False}


@pytest.mark.parametrize("kind", ["access_token", "id_token", "refresh_token"])
async def test_token_presented_again_adds_nothing_to_the_log(app: OAuthApp, kind: str) -> None:
    token = getattr(await app.node.issue(client_id="public", kinds=ISSUABLE), kind)
    replica = app.node.core.replica
    before = replica.applied
    for _ in range(5):
        assert_done(await app.post("/revoke", {"token": token, "client_id": "public"}))
    assert replica.applied == before + 1


async def test_every_client_can_revoke_its_own_tokens(app: OAuthApp) -> None:
    await app.register_assertion_client("signed")
    proofs: dict[str, dict[str, Any]] = {
        "signed": app.assertion("signed"),
        "public": {"client_id": "public"},
        "web": {"client_id": "web", "client_secret": app.secrets["web"]},
    }
    for client_id, proof in proofs.items():
        issued = await app.node.issue(client_id=client_id)
        assert_done(await app.post("/revoke", {"token": issued.refresh_token, **proof}))
        assert await active(app, issued) == {"access": False, "refresh": False}


async def test_revocation_names_its_client_in_the_audit_trail(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")
    await revoke(app, issued.access_token)
    (event,) = app.node.audit.named("revoked")
    assert (event["actor"], event["target"], event["value"]) == ("caller:web", "TOKEN_ID", issued.token_id)


@pytest.mark.parametrize(
    "token", ["x", "\0", " ", "a.b.c", "é", "tsrt_" + "A" * 100, "." * 9000, "x" * 60_000, "\U0001f600" * 100]
)
async def test_unusable_token_is_a_success(app: OAuthApp, token: str) -> None:
    assert_done(await revoke(app, token))
    assert app.node.replica.applied == 0


async def test_expired_and_forgotten_tokens_are_a_success(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="other")
    app.clock.elapsed += 400 * DAY
    assert_done(await revoke(app, issued.access_token))
    app.node.session_store._state.sessions.clear()
    assert_done(await revoke(app, issued.refresh_token))
    assert app.node.replica.applied == 0


# --- Refusals -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["access_token", "id_token", "refresh_token", "session_token"])
@pytest.mark.parametrize("thief", ["other", "public"])
async def test_token_of_another_client_is_refused_without_effect(
    app: OAuthApp, kind: str, thief: str
) -> None:
    issued = await app.node.issue(client_id="web", kinds=ISSUABLE)
    proof = {"client_id": "public"} if thief == "public" else {}
    answers = []
    for _ in range(2):  # a live session, then an ended one: the answer does not tell
        form = {"token": getattr(issued, kind), **proof}
        answers.append(await app.post("/revoke", form, client_id=None if proof else thief))
        assert (answers[-1].status_code, answers[-1].json()) == (
            400,
            {
                "error": "invalid_grant",
                "error_description": "the token was issued to another client",
                "reason": "WRONG_CLIENT",
            },
        )
        if len(answers) == 1:
            assert set((await active(app, issued)).values()) == {True}
            await app.node.revoke(token=issued.refresh_token)
    assert answers[0].content == answers[1].content
    assert (await app.node.session(issued.session_id)).state(app.clock.now()) is SessionState.REVOKED


async def test_right_to_revoke_for_other_clients_counts_here_too(app: OAuthApp) -> None:
    await app.register("operator", Permission.REVOKE)
    issued = await app.node.issue(client_id="web")
    assert_done(await revoke(app, issued.refresh_token, "operator"))
    assert await active(app, issued) == {"access": False, "refresh": False}


async def test_holder_of_a_bearer_token_is_no_client(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")
    own = (await app.token("web")).json()["access_token"]
    for token in (own, issued.access_token):
        answer = await app.post(
            "/revoke", {"token": issued.refresh_token}, headers={"Authorization": f"Bearer {token}"}
        )
        assert answer.status_code == 401
    assert set((await active(app, issued)).values()) == {True}


@pytest.mark.parametrize("parameters", [{}, {"token": ""}, {"token": ["x", "x"]}])
async def test_request_without_one_token_is_invalid(app: OAuthApp, parameters: dict[str, Any]) -> None:
    answer = await app.post("/revoke", parameters, client_id="web")
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_unauthenticated_request_is_refused(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")
    for proof in ({}, {"client_id": "web"}, {"client_id": "web", "client_secret": "wrong"}):
        answer = await app.post("/revoke", {"token": issued.refresh_token, **proof})
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")
    assert set((await active(app, issued)).values()) == {True}


# --- Failures ------------------------------------------------------------------------------------------------------------------


async def test_revocation_works_while_signing_is_unavailable(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")
    keyring: Any = Intercepted(app.node.keyring)
    keyring.before["ready"] = raising(SigningUnavailableError())
    app.node.issuer._keyring = keyring
    assert (await app.token("web")).json()["reason"] == "SIGNING_UNAVAILABLE"
    assert_done(await revoke(app, issued.access_token))
    assert_done(await revoke(app, issued.refresh_token))
    assert await active(app, issued) == {"access": False, "refresh": False}


async def test_revocation_that_may_not_be_durable_is_no_success(app: OAuthApp) -> None:
    issued = await app.node.issue(client_id="web")
    log = Intercepted(app.node.revoker._log)
    app.node.revoker._log = log
    log.before["append"] = raising(StoreUnavailableError(retry_after=0.5))
    for token in (issued.access_token, issued.refresh_token):
        answer = await revoke(app, token)
        assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]) == (
            503,
            "1",
            "temporarily_unavailable",
        )
    del log.before["append"]
    assert_done(await revoke(app, issued.refresh_token))
