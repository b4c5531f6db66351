"""A client that lost scopes or audiences gets no more of them, also from grants that are older than the change."""

from __future__ import annotations

from typing import Any

import httpx

from tests.unit.core.jwts import claims_of
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.access.caller import Caller
from token_service.core.clients.client import REFRESH_TOKEN, TOKEN_EXCHANGE
from token_service.core.grants.personal_access import PERSONAL_ACCESS_TOKEN
from token_service.core.issuing.personal_access_tokens import CreateCommand
from token_service.core.policies.rights import Permission, Right

BEFORE: dict[str, Any] = {"scopes": ("read", "write"), "audiences": ("orders", "files")}
GRANT: dict[str, Any] = {"scopes": ("read", "write"), "audience": ("orders", "files")}


async def narrow(app: OAuthApp, **metadata: tuple[str, ...]) -> None:
    app.clock.elapsed += 10
    await app.node.core.client_administration.update(Caller.system(), "app", metadata, app.clock.now())


def content(answer: httpx.Response) -> tuple[Any, Any]:
    """Return the audience and the scopes of the new access token."""
    assert answer.status_code == 200, answer.text
    body = answer.json()
    claims = claims_of(body["access_token"])
    assert body["scope"] == claims["scope"]
    return claims["aud"], claims["scope"]


async def test_refreshed_token_has_what_the_client_is_still_registered_for(app: OAuthApp) -> None:
    await app.register("app", **BEFORE)
    token = (await app.node.issue("alice", "app", **GRANT)).refresh_token

    async def refresh(**parameters: str) -> httpx.Response:
        nonlocal token
        answer = await app.token("app", REFRESH_TOKEN, refresh_token=token, **parameters)
        token = answer.json().get("refresh_token", token)
        return answer

    assert content(await refresh()) == (["orders", "files"], "read write")
    await narrow(app, scopes=("read",), audiences=("files",))
    assert content(await refresh()) == ("files", "read")
    for parameters, error in (
        ({"scope": "write"}, "invalid_scope"),
        ({"resource": "orders"}, "invalid_target"),
    ):
        answer = await refresh(**parameters)
        assert (answer.status_code, answer.json()["error"]) == (400, error)
    await narrow(app, audiences=("else",))
    answer = await refresh()
    assert (answer.status_code, answer.json()["reason"]) == (400, "POLICY_VIOLATION")
    await narrow(app, scopes=("read", "write"), audiences=("files", "orders"))
    assert content(await refresh()) == (["orders", "files"], "read write")  # no refusal used the token up


async def test_personal_access_token_gives_any_client_what_its_own_client_is_registered_for(
    app: OAuthApp,
) -> None:
    await app.register("app", grant_types=(TOKEN_EXCHANGE,), **BEFORE)
    right = Right(permission=Permission.EXCHANGE, clients=("app",))
    await app.register("gateway", grant_types=(TOKEN_EXCHANGE,), rights=(right,))
    command = CreateCommand(subject="alice", client_id="app", name="backup", ttl=3600.0, **GRANT)
    created = await app.node.core.personal_access_tokens.create(Caller.system(), command, app.clock.now())
    parameters = {"subject_token": created.token, "subject_token_type": PERSONAL_ACCESS_TOKEN}
    await narrow(app, scopes=("read",), audiences=("files",))
    for client_id in ("app", "gateway"):
        assert content(await app.token(client_id, TOKEN_EXCHANGE, **parameters)) == ("files", "read")
        answer = await app.token(client_id, TOKEN_EXCHANGE, **parameters, scope="write")
        assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
    await narrow(app, scopes=("else",))
    answer = await app.token("gateway", TOKEN_EXCHANGE, **parameters)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_scope")
