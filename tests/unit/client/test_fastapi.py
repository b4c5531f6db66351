# No postponed annotations: FastAPI evaluates them, and those of routes in functions name local variables.
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Any

import httpx
import msgspec
import pydantic
import pytest
from fastapi import APIRouter, Depends, FastAPI, HTTPException, Request, Security, WebSocket
from fastapi.responses import PlainTextResponse
from fastapi.security import OAuth2AuthorizationCodeBearer

from tests.support.http_askers import AioJudge
from tests.support.token_mint import Mint
from tests.unit.tokens.dpop_proofs import ProofMaker
from token_service.client.asgi import BearerAuthMiddleware
from token_service.client.fastapi import protect, require
from token_service.client.proof_rules import ProofRules
from token_service.client.resource_metadata import ResourceMetadata
from token_service.errors import ConfigurationError
from token_service.tokens.claims import VerifiedClaims

MINT = Mint("ES256")
ORIGIN = "https://api.example"
KEY = ProofMaker()
Reader = Annotated[VerifiedClaims, Depends(require("read"))]


def bearer(**claims: Any) -> dict[str, str]:
    return {"Authorization": f"Bearer {MINT.token(time.time(), **claims)}"}


def protected(judge: AioJudge | None = None, **options: Any) -> FastAPI:
    app = FastAPI()
    protect(app, judge or AioJudge(MINT), **options)  # type: ignore[arg-type]
    return app


async def get(
    app: Any, path: str, headers: dict[str, str] | None = None, method: str = "GET"
) -> httpx.Response:
    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=ORIGIN) as client:
        return await client.request(method, path, headers=headers)


async def test_coroutines_and_functions_get_the_claims() -> None:
    app = protected()

    @app.get("/aio")
    async def aio(claims: Reader) -> str:
        return claims.subject

    @app.get("/sync")
    def sync(claims: Reader, request: Request) -> str:
        assert request.scope["token_claims"] is claims
        return claims.subject

    for path in ("/aio", "/sync"):
        assert (await get(app, path, bearer(sub="alice"))).json() == "alice"
        refused = await get(app, path)
        assert (refused.status_code, refused.json()) == (401, {"detail": "an access token is needed"})
        assert refused.headers["www-authenticate"] == "Bearer"
        assert refused.headers["cache-control"] == "no-store"


async def test_every_requirement_is_checked() -> None:
    app = protected(realm="shop")

    @app.get(
        "/",
        dependencies=[
            Depends(require("read", roles=["clerk"], acr_values=["urn:mfa"], max_age=300, audience="shop"))
        ],
    )
    async def root() -> None: ...

    now = int(time.time())
    good: dict[str, Any] = {
        "aud": "shop",
        "roles": ["clerk"],
        "auth_ctx": {"acr": "urn:mfa", "auth_time": now},
    }
    assert (await get(app, "/", bearer(**good))).status_code == 200
    cases: list[tuple[dict[str, Any], int, str]] = [
        ({"scope": "write"}, 403, 'error="insufficient_scope"'),
        ({"roles": ["guest"]}, 403, 'error="insufficient_scope"'),
        ({"aud": "api"}, 401, 'error="invalid_token"'),
        ({"auth_ctx": {"acr": "urn:pwd", "auth_time": now}}, 401, 'acr_values="urn:mfa", max_age="300"'),
        ({"auth_ctx": {"acr": "urn:mfa", "auth_time": now - 301}}, 401, "insufficient_user_authentication"),
        ({"exp": now - 5, "iat": now - 50, "nbf": now - 50}, 401, "the token has expired"),
    ]
    for change, status, error in cases:
        refused = await get(app, "/", bearer(**{**good, **change}))
        assert (change, refused.status_code) == (change, status)
        assert error in refused.headers["www-authenticate"]
        assert refused.headers["www-authenticate"].startswith('Bearer realm="shop", ')


async def test_scopes_of_security_are_required_too() -> None:
    app = protected()
    reads = require("read")

    @app.get("/")
    async def root(claims: Annotated[VerifiedClaims, Security(reads, scopes=["admin"])]) -> None: ...

    @app.get("/other")
    async def other(claims: Annotated[VerifiedClaims, Depends(reads)]) -> None: ...

    for scope, status in [("read admin", 200), ("read", 403), ("admin", 403)]:
        assert (await get(app, "/", bearer(scope=scope))).status_code == status
    refused = await get(app, "/", bearer(scope="write"))
    assert 'scope="admin read"' in refused.headers["www-authenticate"]
    assert (await get(app, "/other", bearer(scope="read"))).status_code == 200


async def test_dependencies_of_dependencies_and_routers_are_checked() -> None:
    app = protected()

    async def tenant(claims: Reader) -> str:
        return str(claims.payload["tenant"])

    router = APIRouter(prefix="/admin", dependencies=[Depends(require("admin"))])

    @router.get("/tenant")
    async def of_admin(tenant: Annotated[str, Depends(tenant)]) -> str:
        return tenant

    app.include_router(router)
    assert (await get(app, "/admin/tenant", bearer(scope="read admin", tenant="acme"))).json() == "acme"
    for scope in ("read", "admin"):
        assert (await get(app, "/admin/tenant", bearer(scope=scope, tenant="acme"))).status_code == 403


async def test_an_outage_tells_strangers_nothing() -> None:
    judge = AioJudge(MINT)
    judge.is_stale = True
    app = protected(judge)

    @app.get("/")
    async def root(claims: Reader) -> None: ...

    refused = await get(app, "/", bearer())
    assert (refused.status_code, refused.json()) == (
        503,
        {"detail": "temporarily unavailable; retry later"},
    )
    assert refused.headers["retry-after"] == "1"
    assert "www-authenticate" not in refused.headers


async def test_applications_may_word_refusals_themselves() -> None:
    app = protected()

    @app.get("/")
    async def root(claims: Reader) -> None: ...

    @app.exception_handler(HTTPException)
    async def handler(request: Request, error: HTTPException) -> PlainTextResponse:
        return PlainTextResponse("go away", error.status_code, headers=error.headers)

    refused = await get(app, "/")
    assert (refused.status_code, refused.text) == (401, "go away")
    assert refused.headers["www-authenticate"] == "Bearer"


async def test_an_application_without_validator_refuses_everything() -> None:
    app = FastAPI()

    @app.get("/")
    async def root(claims: Reader) -> None: ...

    with pytest.raises(ConfigurationError, match="call protect"):
        await get(app, "/", bearer())


async def test_tests_of_users_may_override_a_dependency() -> None:
    app = protected()
    reads = require("read")

    @app.get("/")
    async def root(claims: Annotated[Any, Depends(reads)]) -> str:
        return str(claims)

    app.dependency_overrides[reads] = lambda: "alice"
    assert (await get(app, "/")).json() == "alice"


# --- Typed claims -----------------------------------------------------------------------------------------------------


@dataclass
class AsDataclass:
    sub: str
    tenant: str
    limit: int = 10


class AsStruct(msgspec.Struct):
    sub: str
    tenant: str
    limit: int = 10


class AsModel(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(strict=True)
    sub: str
    tenant: str
    limit: int = 10


@pydantic.dataclasses.dataclass(config=pydantic.ConfigDict(strict=True))
class AsPydanticDataclass:
    sub: str
    tenant: str
    limit: int = 10


@pytest.mark.parametrize("kind", [AsDataclass, AsStruct, AsModel, AsPydanticDataclass])
async def test_claims_have_the_type_of_the_application(kind: Any) -> None:
    app = protected()

    @app.get("/")
    async def root(claims: Annotated[Any, Depends(require("read", claims=kind))]) -> list[Any]:
        assert type(claims) is kind
        return [claims.sub, claims.tenant, claims.limit]

    assert (await get(app, "/", bearer(tenant="acme"))).json() == ["user-1", "acme", 10]
    assert (await get(app, "/", bearer(tenant="acme", limit=3))).json() == ["user-1", "acme", 3]
    unfit: list[tuple[dict[str, Any], str]] = [
        ({}, "tenant"),
        ({"tenant": 7}, "tenant"),
        ({"tenant": None}, "tenant"),
        ({"tenant": "acme", "limit": "s3cret"}, "limit"),
    ]
    for claims, named in unfit:
        refused = await get(app, "/", bearer(**claims))
        assert refused.status_code == 403
        assert "do not fit this route" in refused.json()["detail"]
        assert named in refused.json()["detail"]
        assert "s3cret" not in refused.text + str(refused.headers)
        assert 'error="insufficient_scope"' in refused.headers["www-authenticate"]
    assert (await get(app, "/", bearer(scope="x", tenant="acme"))).status_code == 403
    assert (await get(app, "/")).status_code == 401


# --- OpenAPI ----------------------------------------------------------------------------------------------------------


async def test_the_document_describes_security() -> None:
    app = protected()
    oauth2 = OAuth2AuthorizationCodeBearer(
        authorizationUrl="https://tokens.example/authorize",
        tokenUrl="https://tokens.example/token",
        scopes={"pay": "Pay orders"},
        scheme_name="tokens",
    )

    @app.get("/orders")
    async def orders(claims: Reader) -> None: ...

    @app.get("/payments")
    async def payments(claims: Annotated[VerifiedClaims, Depends(require("pay", scheme=oauth2))]) -> None: ...

    @app.get("/healthz")
    async def healthz() -> None: ...

    document = app.openapi()
    schemes = document["components"]["securitySchemes"]
    assert schemes["accessToken"] == {"type": "http", "scheme": "bearer", "bearerFormat": "JWT"}
    assert schemes["tokens"]["flows"]["authorizationCode"]["tokenUrl"] == "https://tokens.example/token"
    assert {path: item["get"].get("security") for path, item in document["paths"].items()} == {
        "/orders": [{"accessToken": ["read"]}],
        "/payments": [{"tokens": ["pay"]}],
        "/healthz": None,
    }
    assert not any("parameters" in item["get"] for item in document["paths"].values())
    assert (await get(app, "/payments")).headers["www-authenticate"] == "Bearer"
    assert (await get(app, "/payments", bearer(scope="pay"))).status_code == 200


async def test_the_metadata_of_the_resource_are_served() -> None:
    app = protected(resource_metadata=ResourceMetadata(resource=ORIGIN, scopes=["read"]))
    served = await get(app, "/.well-known/oauth-protected-resource")
    assert served.headers["content-type"] == "application/json"
    assert served.json()["scopes_supported"] == ["read"]
    assert app.openapi()["paths"] == {}

    @app.get("/")
    async def root(claims: Reader) -> None: ...

    assert (await get(app, "/")).headers["www-authenticate"] == (
        f'Bearer resource_metadata="{ORIGIN}/.well-known/oauth-protected-resource"'
    )


# --- Proofs -----------------------------------------------------------------------------------------------------------


def with_proof() -> dict[str, str]:
    token = MINT.token(time.time(), cnf={"jkt": KEY.jkt})
    return {
        "Authorization": f"DPoP {token}",
        "DPoP": KEY.proof(token=token, uri=f"{ORIGIN}/orders", now=time.time()),
    }


async def test_a_proof_counts_for_all_dependencies_of_one_request() -> None:
    judge = AioJudge(MINT)
    app = protected(judge, proofs=ProofRules(origins=[ORIGIN]))
    app.router.dependencies.append(Depends(require()))

    @app.get("/orders", dependencies=[Depends(require("read"))])
    async def orders(claims: Reader) -> str:
        return claims.subject

    headers = with_proof()
    assert (await get(app, "/orders", headers)).json() == "user-1"
    again = await get(app, "/orders", headers)
    assert again.status_code == 401
    assert 'error="invalid_dpop_proof"' in again.headers["www-authenticate"]
    missing = await get(app, "/orders", {"Authorization": headers["Authorization"]})
    assert [each.split(" ")[0] for each in missing.headers.get_list("www-authenticate")] == ["Bearer", "DPoP"]
    # A middleware around the application checks the proof of the request first.
    outer = BearerAuthMiddleware(app, judge, proofs=ProofRules(origins=[ORIGIN]))  # type: ignore[arg-type]
    assert (await get(outer, "/orders", with_proof())).json() == "user-1"


async def test_a_bound_token_without_rules_for_proofs_is_refused() -> None:
    app = protected()

    @app.get("/orders")
    async def orders(claims: Reader) -> None: ...

    assert (await get(app, "/orders", with_proof())).status_code == 401


# --- WebSockets -------------------------------------------------------------------------------------------------------


async def websocket(app: Any, headers: dict[str, str], extensions: dict[str, Any]) -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []
    scope = {
        "type": "websocket",
        "scheme": "wss",
        "path": "/feed",
        "raw_path": b"/feed",
        "query_string": b"",
        "subprotocols": [],
        "headers": [(name.lower().encode(), value.encode()) for name, value in headers.items()],
        "extensions": extensions,
    }

    async def events() -> AsyncIterator[dict[str, Any]]:
        yield {"type": "websocket.connect"}
        while True:
            yield {"type": "websocket.disconnect", "code": 1000}

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, events().__anext__, send)
    return sent


async def test_websockets_are_refused_before_they_are_accepted() -> None:
    judge = AioJudge(MINT)
    app = protected(judge)

    @app.websocket("/feed")
    async def feed(socket: WebSocket, claims: Reader) -> None:
        await socket.accept()
        await socket.send_text(claims.subject)

    accepted = await websocket(app, bearer(sub="alice"), {})
    assert [message["type"] for message in accepted] == ["websocket.accept", "websocket.send"]
    assert accepted[1]["text"] == "alice"
    [closed] = await websocket(app, {}, {})
    assert (closed["type"], closed["code"]) == ("websocket.close", 1008)
    start, body = await websocket(app, bearer(scope="x"), {"websocket.http.response": {}})
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 403)
    assert b"insufficient_scope" in dict(start["headers"])[b"www-authenticate"]
    assert json.loads(body["body"]) == {"detail": "the token lacks a required scope"}
    judge.is_stale = True
    [closed] = await websocket(app, bearer(), {})
    assert (closed["type"], closed["code"]) == ("websocket.close", 1013)
