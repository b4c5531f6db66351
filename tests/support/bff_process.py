"""One process of an application behind a backend-for-frontend: `python -m tests.support.bff_process`."""

from __future__ import annotations

import argparse
import asyncio
from typing import Any

import uvicorn

from tests.support.browser import PUBLIC_URL
from tests.support.fake_provider import CLIENT_ID, CLIENT_SECRET
from tests.support.session_stores import opened_store
from token_service.bff import (
    BackendForFrontend,
    BffConfig,
    ClientSecretBasic,
    Provider,
    ProviderLogout,
    session_of,
)
from token_service.tokens.secret import Secret


async def application(scope: Any, receive: Any, send: Any) -> None:
    """Answer with the subject of the session."""
    assert scope["type"] == "http"
    session = session_of(scope)
    if session is None:
        subject = "nobody"
    else:
        await session.access_token()
        subject = session.subject
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": subject.encode()})


async def serve(port: int, issuer: str, store_url: str) -> None:
    """Serve until the process is ended."""
    config = BffConfig(
        public_url=PUBLIC_URL,
        provider=Provider(
            issuer=issuer,
            client=ClientSecretBasic(CLIENT_ID, Secret(CLIENT_SECRET.encode())),
            timeout=20.0,
        ),
        keys={1: Secret(b"k" * 32)},
        active_key=1,
        logout=ProviderLogout.REVOKE,
    )
    async with opened_store(store_url) as store, BackendForFrontend(application, config, store) as bff:
        settings = uvicorn.Config(
            bff, host="127.0.0.1", port=port, log_level="warning", lifespan="off", ws="none"
        )
        await uvicorn.Server(settings).serve()


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--issuer", required=True)
    parser.add_argument("--store", required=True)
    options = parser.parse_args()
    asyncio.run(serve(options.port, options.issuer, options.store))


if __name__ == "__main__":
    main()
