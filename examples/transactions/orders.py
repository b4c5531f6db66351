"""A service inside: accepts transaction tokens over HTTP, and passes them on over gRPC."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import uvicorn
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from token_service.client import (
    BearerAuthMiddleware,
    ServiceIssuer,
    TokenKind,
    TokenValidator,
    ValidatorConfig,
    aio_transaction_interceptors,
    current_claims,
)

issuer = ServiceIssuer(
    issuer=os.environ["ISSUER"],
    target=os.environ["TARGET"],
    token_kinds=frozenset({TokenKind.TRANSACTION}),
)
validator = TokenValidator(ValidatorConfig(issuers=[issuer], audience="shop.example"))


async def place_order(request: Request) -> JSONResponse:
    item = request.path_params["item"]
    if current_claims().custom_claims.get("tctx") != {"item": item}:
        return JSONResponse({"error": "the transaction is about another item"}, 403)
    try:
        taken = await request.app.state.take(item.encode(), timeout=5)
    except grpc.aio.AioRpcError as error:
        return JSONResponse({"error": error.details()}, 502)
    return JSONResponse(json.loads(taken))


@asynccontextmanager
async def lifespan(app: Starlette) -> AsyncIterator[None]:
    interceptors = aio_transaction_interceptors()
    async with (
        validator,
        grpc.aio.insecure_channel(os.environ["STOCK_TARGET"], interceptors=interceptors) as channel,
    ):
        app.state.take = channel.unary_unary("/shop.Stock/Take")
        await validator.wait_ready()
        yield


app = Starlette(
    routes=[Route("/orders/{item}", place_order, methods=["POST"])],
    middleware=[
        Middleware(
            BearerAuthMiddleware,
            validator=validator,
            trust_domain="shop.example",
            scopes={"POST /orders/*": ["orders:write"]},
        )
    ],
    lifespan=lifespan,
)

if __name__ == "__main__":
    uvicorn.run(app, port=int(os.environ["PORT"]), log_level="warning")
