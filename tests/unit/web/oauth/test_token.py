"""The token endpoint: its grants, and the form of its responses."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx
import pytest

from tests.unit.core.jwts import claims_of
from tests.unit.core.node import ISSUER, Intercepted
from tests.unit.web.oauth.oauth_app import ADDRESS, OAuthApp
from token_service.core.clients.client import CLIENT_CREDENTIALS, REFRESH_TOKEN
from token_service.core.issuing.commands import IssuedTokens
from token_service.errors import StoreUnavailableError
from token_service.web.edge import RequestLimits


async def test_client_gets_an_access_token_for_itself(app: OAuthApp) -> None:
    await app.register("app")
    answer = await app.token("app")
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert (answer.headers["cache-control"], answer.headers["pragma"]) == ("no-store", "no-cache")
    body = answer.json()
    claims = claims_of(body.pop("access_token"))
    assert body == {"token_type": "Bearer", "expires_in": 1800, "scope": "read write"}
    assert (claims["iss"], claims["aud"], claims["sub"], claims["client_id"], claims["scope"]) == (
        ISSUER, ISSUER, "app", "app", "read write",
    )  # fmt: skip
    assert "sid" not in claims
    (issued,) = app.node.audit.named("token.issued")
    assert (issued["actor"], issued["ip_address"], issued["user_agent"]) == (
        "caller:app",
        ADDRESS,
        app.http.headers["user-agent"],
    )


async def test_user_agent_of_any_bytes_is_recorded_readably(app: OAuthApp) -> None:
    await app.register("app")
    answer = await app.http.post(
        "/token",
        data={"grant_type": CLIENT_CREDENTIALS},
        headers={
            b"Authorization": app.basic("app")["Authorization"].encode(),
            b"User-Agent": "cafÉ	app".encode(),
        },
    )
    assert answer.status_code == 200, answer.text
    (issued,) = app.node.audit.named("token.issued")
    assert issued["user_agent"] == "cafÃ??app"


async def test_scopes_of_client_credentials_are_those_of_the_registration(app: OAuthApp) -> None:
    await app.register("app")
    narrowed = (await app.token("app", scope="write write")).json()
    assert (narrowed["scope"], claims_of(narrowed["access_token"])["scope"]) == ("write", "write")
    refused = await app.token("app", scope="write admin")
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_scope")
    await app.register("bare", scopes=())
    bare = (await app.token("bare")).json()
    assert "scope" not in bare
    assert not claims_of(bare["access_token"]).get("scope")
    assert (await app.token("bare", scope="read")).json()["error"] == "invalid_scope"


async def test_resource_and_audience_name_the_audience(app: OAuthApp) -> None:
    await app.register("app", audiences=("https://a.example", "https://b.example", "c"))
    both = await app.token(
        "app", resource=["https://a.example", "https://b.example"], audience=["c", "https://a.example"]
    )
    assert claims_of(both.json()["access_token"])["aud"] == ["https://a.example", "https://b.example", "c"]
    for wrong in ({}, {"resource": "https://evil.example"}, {"audience": ["c", ISSUER]}):
        refused = await app.token("app", **wrong)
        assert (refused.status_code, refused.json()["error"]) == (400, "invalid_target")


@pytest.mark.parametrize(
    ("parameters", "status", "error"),
    [
        ({}, 400, "invalid_request"),
        ({"grant_type": ""}, 400, "invalid_request"),
        ({"grant_type": "password", "username": "a", "password": "b"}, 400, "unsupported_grant_type"),
        ({"grant_type": "implicit"}, 400, "unsupported_grant_type"),
        ({"grant_type": [CLIENT_CREDENTIALS, CLIENT_CREDENTIALS]}, 400, "invalid_request"),
        ({"grant_type": REFRESH_TOKEN}, 400, "invalid_request"),
        ({"grant_type": REFRESH_TOKEN, "refresh_token": "x"}, 400, "invalid_grant"),
        ({"grant_type": REFRESH_TOKEN, "refresh_token": "\0"}, 400, "invalid_grant"),
        ({"grant_type": REFRESH_TOKEN, "refresh_token": "é" * 10_000}, 400, "invalid_grant"),
        ({"grant_type": REFRESH_TOKEN, "refresh_token": "x", "device_id": "\0"}, 400, "invalid_request"),
        ({"grant_type": REFRESH_TOKEN, "refresh_token": "x", "scope": "\0"}, 400, "invalid_scope"),
        ({"grant_type": REFRESH_TOKEN, "refresh_token": "x", "resource": "\0"}, 400, "invalid_target"),
        ({"grant_type": CLIENT_CREDENTIALS, "scope": "é"}, 400, "invalid_scope"),
        ({"grant_type": CLIENT_CREDENTIALS, "scope": "\0"}, 400, "invalid_scope"),
        ({"grant_type": CLIENT_CREDENTIALS, "scope": " ".join(["read"] * 9000)}, 200, None),
        ({"grant_type": CLIENT_CREDENTIALS, "resource": [f"r{n}" for n in range(60)]}, 400, "invalid_target"),
        ({"grant_type": CLIENT_CREDENTIALS, "unknown": "ignored"}, 200, None),
    ],
)
async def test_request_gets_the_error_of_its_fault(
    app: OAuthApp, parameters: dict[str, Any], status: int, error: str | None
) -> None:
    await app.register("app")
    answer = await app.post("/token", parameters, client_id="app")
    assert (answer.status_code, answer.json().get("error")) == (status, error)


async def test_client_is_registered_for_each_grant_type(app: OAuthApp) -> None:
    await app.register("cc", grant_types=(CLIENT_CREDENTIALS,))
    await app.register("rt", grant_types=(REFRESH_TOKEN,))
    assert (await app.token("rt")).json()["error"] == "unauthorized_client"
    tokens = await app.node.issue(client_id="cc")
    refused = await app.token("cc", REFRESH_TOKEN, refresh_token=tokens.refresh_token)
    assert (refused.status_code, refused.json()["error"]) == (400, "unauthorized_client")


# --- Refresh -------------------------------------------------------------------------------------------------------------------


async def session(app: OAuthApp, client_id: str = "app", **command: Any) -> IssuedTokens:
    return await app.node.issue(client_id=client_id, **{"scopes": ("read", "write"), **command})


async def refresh(app: OAuthApp, token: str, client_id: str = "app", **parameters: Any) -> httpx.Response:
    return await app.token(client_id, REFRESH_TOKEN, refresh_token=token, **parameters)


async def test_refresh_rotates_and_names_the_lifetimes(app: OAuthApp) -> None:
    await app.register("app")
    issued = await session(app)
    policy = app.node.policy
    app.clock.elapsed += 10
    answer = await refresh(app, issued.refresh_token)
    body = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert claims_of(body.pop("access_token"))["sub"] == "alice"
    successor = body.pop("refresh_token")
    assert successor != issued.refresh_token
    assert body == {
        "token_type": "Bearer",
        "expires_in": 1800,
        "scope": "read write",
        "refresh_token_timeout": int(min(policy.idle_timeout, policy.refresh_token_ttl - 10)),
        "authorization_expires_in": int(policy.refresh_token_ttl - 10),
    }
    again = (await refresh(app, issued.refresh_token)).json()  # a lost response
    assert again["refresh_token"] == successor
    assert (await refresh(app, successor)).status_code == 200


async def test_public_client_refreshes_with_its_client_id(app: OAuthApp) -> None:
    await app.register_public("app")
    issued = await session(app)
    parameters = {"grant_type": REFRESH_TOKEN, "client_id": "app", "refresh_token": issued.refresh_token}
    assert (await app.post("/token", parameters)).status_code == 200


async def test_refresh_narrows_one_access_token_only(app: OAuthApp) -> None:
    await app.register("app")
    issued = await session(app, audience=("a", "b"))
    narrowed = (await refresh(app, issued.refresh_token, scope="read", resource="a")).json()
    claims = claims_of(narrowed["access_token"])
    assert (narrowed["scope"], claims["scope"], claims["aud"]) == ("read", "read", "a")
    whole = (await refresh(app, narrowed["refresh_token"])).json()
    assert (whole["scope"], claims_of(whole["access_token"])["aud"]) == ("read write", ["a", "b"])
    for wrong, error in (({"scope": "admin"}, "invalid_scope"), ({"resource": "c"}, "invalid_target")):
        refused = await refresh(app, whole["refresh_token"], **wrong)
        assert (refused.status_code, refused.json()["error"]) == (400, error)
    assert (await refresh(app, whole["refresh_token"])).status_code == 200


async def test_token_of_another_client_is_refused_without_effect(app: OAuthApp) -> None:
    await app.register("app")
    await app.register("thief")
    issued = await session(app)
    stolen = await refresh(app, issued.refresh_token, "thief")
    assert (stolen.status_code, stolen.json()["error"]) == (400, "invalid_grant")
    assert (await refresh(app, issued.refresh_token)).status_code == 200


async def test_reused_token_ends_its_session(app: OAuthApp) -> None:
    await app.register("app")
    issued = await session(app)
    successor = (await refresh(app, issued.refresh_token)).json()["refresh_token"]
    app.clock.elapsed += app.node.policy.grace_period + 1
    reused = await refresh(app, issued.refresh_token)
    assert (reused.json()["error"], reused.json()["reason"]) == ("invalid_grant", "REFRESH_TOKEN_REUSED")
    assert (await refresh(app, successor)).json()["reason"] == "SESSION_REVOKED"


async def test_session_of_a_device_needs_its_device_id(app: OAuthApp) -> None:
    await app.register("app")
    issued = await session(app, device_id="phone")
    for wrong in ({}, {"device_id": "laptop"}):
        assert (await refresh(app, issued.refresh_token, **wrong)).json()["reason"] == "WRONG_DEVICE"
    assert (await refresh(app, issued.refresh_token, device_id="phone")).status_code == 200


async def test_no_member_of_a_response_is_null(app: OAuthApp) -> None:
    await app.register("app", scopes=())
    issued = await app.node.issue(client_id="app")
    for answer in (await app.token("app"), await refresh(app, issued.refresh_token)):
        assert answer.status_code == 200
        assert None not in answer.json().values()


# --- The edge ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH"])
async def test_only_post_is_allowed(app: OAuthApp, method: str) -> None:
    answer = await app.http.request(
        method, "/token", headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")


async def test_requests_beyond_the_limit_are_refused() -> None:
    app = await OAuthApp.start(limits=RequestLimits(max_requests=0))
    await app.register("app")
    answer = await app.token("app")
    assert (answer.status_code, answer.json()["error"], answer.headers["retry-after"]) == (
        429,
        "temporarily_unavailable",
        "1",
    )
    await app.close()


async def test_body_that_never_ends_is_ended_at_the_deadline() -> None:
    app = await OAuthApp.start(limits=RequestLimits(request_deadline=0.01))
    never = asyncio.Event()

    async def body() -> Any:
        yield b"grant_type="
        await never.wait()

    answer = await app.http.post(
        "/token", content=body(), headers={"Content-Type": "application/x-www-form-urlencoded"}
    )
    assert (answer.status_code, answer.json()["reason"], app.edge.running) == (504, "DEADLINE_EXCEEDED", 0)
    await app.close()


async def test_cancelled_request_leaves_nothing() -> None:
    sessions = Intercepted(None)
    app = await OAuthApp.start()
    sessions.target = app.node.session_store
    app.node.refresher._acceptance._sessions = sessions
    await app.register("app")
    issued = await session(app)
    reached = asyncio.Event()

    async def stop() -> None:
        reached.set()
        await asyncio.Event().wait()

    sessions.before["rotate"] = stop
    request = asyncio.create_task(refresh(app, issued.refresh_token))
    await reached.wait()
    assert app.edge.running == 1
    request.cancel()
    with pytest.raises(asyncio.CancelledError):
        await request
    assert app.edge.running == 0
    del sessions.before["rotate"]
    assert (await refresh(app, issued.refresh_token)).status_code == 200
    await app.close()


async def test_store_that_is_down_is_temporary(app: OAuthApp) -> None:
    await app.register("app")
    issued = await session(app)

    async def fail(_: Any) -> None:
        raise StoreUnavailableError(retry_after=2.0)

    app.node.refresher._acceptance._sessions = type("Down", (), {"rotate": staticmethod(fail)})()
    answer = await refresh(app, issued.refresh_token)
    assert (answer.status_code, answer.headers["retry-after"], answer.json()["error"]) == (
        503,
        "2",
        "temporarily_unavailable",
    )
