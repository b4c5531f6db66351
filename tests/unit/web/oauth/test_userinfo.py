"""The userinfo endpoint (OpenID Connect Core 1.0, section 5.3; RFC 6750)."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.clients.client import SubjectType
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.revocation.drafts import draft_of
from token_service.tokens import strict_json
from token_service.tokens.base64url import decode
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import RevocationReason, RevocationTarget
from token_service.tokens.secret import Secret

CLAIMS = {
    "name": "Álice",
    "email": "alice@example.org",
    "email_verified": True,
    "phone_number": "+47 1",
    "address": {"country": "NO"},
    "employee_number": "7",
    "nickname": None,
}
KINDS = frozenset({TokenKind.ACCESS, TokenKind.REFRESH, TokenKind.ID})
ORIGIN = "https://app.example"


async def issue(app: OAuthApp, *scopes: str, client_id: str = "app", **command: Any) -> IssuedTokens:
    values = {"kinds": KINDS, "identity_claims": CLAIMS, **command}
    return await app.node.issue(client_id=client_id, scopes=scopes, **values)


async def ask(app: OAuthApp, token: str, method: str = "GET", **headers: str) -> httpx.Response:
    return await app.http.request(
        method, "/userinfo", headers={"Authorization": f"Bearer {token}", **headers}
    )


def subject_in(token: str) -> str:
    subject: str = strict_json.decode_object(decode(token.split(".")[1].encode()))["sub"]
    return subject


@pytest.mark.parametrize(
    ("scopes", "names"),
    [
        (("openid",), ()),
        (("openid", "profile"), ("name",)),
        (("openid", "email"), ("email", "email_verified")),
        (("openid", "address", "phone", "read"), ("address", "phone_number")),
    ],
)
@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_claims_follow_the_scopes(
    app: OAuthApp, scopes: tuple[str, ...], names: tuple[str, ...], method: str
) -> None:
    issued = await issue(app, *scopes)
    answer = await ask(app, issued.access_token, method)
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert answer.json() == {"sub": "alice", **{name: CLAIMS[name] for name in names}}


async def test_refreshed_token_gets_the_claims_of_its_session(app: OAuthApp) -> None:
    issued = await issue(app, "openid", "email")
    refreshed = await app.node.refresh(issued.refresh_token, client_id="app")
    assert (await ask(app, refreshed.access_token)).json()["email"] == "alice@example.org"


async def test_sub_is_that_of_the_id_token_of_a_pairwise_client() -> None:
    app = await OAuthApp.start(pairwise_key=Secret(b"k" * 32), sectors=object())
    await app.register(
        "app", subject_type=SubjectType.PAIRWISE, redirect_uris=("https://app.example/cb",), scopes=()
    )
    issued = await issue(app, "openid")
    answer = await ask(app, issued.access_token)
    assert answer.json() == {"sub": subject_in(issued.id_token)}
    assert answer.json()["sub"] != "alice"
    await app.close()


async def test_token_in_the_form_counts_and_in_the_url_does_not(app: OAuthApp) -> None:
    token = (await issue(app, "openid")).access_token
    assert (await app.http.post("/userinfo", data={"access_token": token})).json() == {"sub": "alice"}
    for answer in (
        await app.http.get("/userinfo", params={"access_token": token}),
        await app.http.post("/userinfo", params={"access_token": token}),
        await app.http.post(
            "/userinfo", data={"access_token": token}, headers={"Authorization": f"Bearer {token}"}
        ),
    ):
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_request")


async def test_request_without_a_token_learns_no_error_code(app: OAuthApp) -> None:
    for headers in ({}, {"Authorization": "Basic YTpi"}):
        answer = await app.http.get("/userinfo", headers=headers)
        assert (answer.status_code, answer.headers["www-authenticate"]) == (
            401,
            'Bearer realm="token-service"',
        )


async def refused(app: OAuthApp, token: str) -> str:
    answer = await ask(app, token)
    assert (answer.status_code, answer.json()["error"]) == (401, "invalid_token")
    assert answer.headers["www-authenticate"] == 'Bearer realm="token-service", error="invalid_token"'
    assert "alice@example.org" not in answer.text
    return str(answer.json()["error_description"])


async def test_scope_openid_is_needed(app: OAuthApp) -> None:
    answer = await ask(app, (await issue(app, "email")).access_token)
    assert (answer.status_code, answer.json()["error"]) == (403, "insufficient_scope")
    assert answer.headers["www-authenticate"] == (
        'Bearer realm="token-service", error="insufficient_scope", scope="openid"'
    )


async def test_only_access_tokens_count(app: OAuthApp) -> None:
    issued = await issue(app, "openid")
    assert "WRONG_TYPE" in await refused(app, issued.id_token)
    assert "WRONG_TYPE" in await refused(app, issued.refresh_token)
    assert "MALFORMED" in await refused(app, "x.y.z")


@pytest.mark.parametrize("target", ["session", "token", "subject"])
async def test_revoked_token_gets_nothing(app: OAuthApp, target: str) -> None:
    issued = await issue(app, "openid", "email")
    value = {"session": issued.session_id, "token": issued.token_id, "subject": "alice"}[target]
    kind = {
        "session": RevocationTarget.SESSION,
        "token": RevocationTarget.TOKEN_ID,
        "subject": RevocationTarget.SUBJECT,
    }
    assert (await ask(app, issued.access_token)).status_code == 200
    await app.node.revoke(target=kind[target], value=value)
    assert "REVOKED" in await refused(app, issued.access_token)


async def test_revocation_that_this_node_has_not_heard_of_counts(app: OAuthApp) -> None:
    issued = await issue(app, "openid", "email")
    draft = draft_of(
        RevocationTarget.SESSION, issued.session_id, app.clock.now(), reason=RevocationReason.LOGOUT
    )
    await app.node.log.append([draft])
    assert "has ended" in await refused(app, issued.access_token)


async def test_expired_token_gets_nothing(app: OAuthApp) -> None:
    issued = await issue(app, "openid")
    assert issued.access_token_expire_time is not None
    app.clock.elapsed += issued.access_token_expire_time - app.clock.now()
    assert "EXPIRED" in await refused(app, issued.access_token)


async def test_token_without_a_session_is_refused(app: OAuthApp) -> None:
    issued = await issue(app, "openid", kinds=frozenset({TokenKind.ACCESS}))
    assert "no session" in await refused(app, issued.access_token)


async def test_token_of_another_client_for_the_session_is_refused(app: OAuthApp) -> None:
    session_id = (await issue(app, "openid", "email")).session_id
    kinds = frozenset({TokenKind.ACCESS})
    other = await issue(app, "openid", "email", client_id="other", kinds=kinds, session_id=session_id)
    assert "exchanged" in await refused(app, other.access_token)


async def test_session_is_read_once(app: OAuthApp) -> None:
    issued = await issue(app, "openid")
    store = app.node.core.oauth.userinfo._sessions
    asked: list[Any] = []
    get = store.get

    async def counted(session_id: Any) -> Any:
        asked.append(session_id)
        return await get(session_id)

    store.get = counted  # type: ignore[method-assign]
    await ask(app, issued.access_token)
    assert [str(each) for each in asked] == [issued.session_id]


async def test_page_of_the_client_may_read_the_answer(app: OAuthApp) -> None:
    await app.register_public("app", allowed_origins=(ORIGIN,), scopes=())
    await app.register_public("other", allowed_origins=("https://other.example",), scopes=())
    issued = await issue(app, "openid")
    allowed = await ask(app, issued.access_token, Origin=ORIGIN)
    assert allowed.headers["access-control-allow-origin"] == ORIGIN
    foreign = await ask(app, issued.access_token, Origin="https://other.example")
    assert "access-control-allow-origin" not in foreign.headers
    preflight = await app.http.options(
        "/userinfo", headers={"Origin": ORIGIN, "Access-Control-Request-Method": "GET"}
    )
    assert preflight.headers["access-control-allow-methods"] == "GET, POST"
