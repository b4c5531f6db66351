"""The edge: accepts access tokens, and exchanges each for a transaction token."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from token_service.client import (
    BearerAuthMiddleware,
    Secret,
    ServiceError,
    ServiceIssuer,
    TokenValidator,
    TransactionExchange,
    TransactionHook,
    ValidatorConfig,
)

validator = TokenValidator(
    ValidatorConfig(
        issuers=[ServiceIssuer(issuer=os.environ["ISSUER"], target=os.environ["TARGET"])], audience="shop"
    )
)
exchange = TransactionExchange(
    token_url=os.environ["TOKEN_URL"],
    client_id="edge",
    secret=Secret(os.environ["CLIENT_SECRET"].encode()),
    trust_domain="shop.example",
)
hook = TransactionHook(hosts=["127.0.0.1"])
orders = httpx.AsyncClient(
    base_url=os.environ["ORDERS_URL"], event_hooks={"request": [hook.on_async_request]}
)


async def place_order(request: Request) -> JSONResponse:
    item = request.path_params["item"]
    access_token = request.headers["authorization"].partition(" ")[2]
    try:
        async with exchange.transaction_async(access_token, scopes=["orders:write"], details={"item": item}):
            answer = await orders.post(f"/orders/{item}")
    except ServiceError:
        return JSONResponse({"error": "temporarily unavailable"}, 503)
    return JSONResponse(answer.json(), answer.status_code)


@asynccontextmanager
async def lifespan(_: Starlette) -> AsyncIterator[None]:
    async with validator, orders:
        await validator.wait_ready()
        yield


app = Starlette(
    routes=[Route("/orders/{item}", place_order, methods=["POST"])],
    middleware=[
        Middleware(BearerAuthMiddleware, validator=validator, scopes={"POST /orders/*": ["orders:write"]})
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning")
