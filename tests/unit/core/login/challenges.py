"""Login challenges of the client `app`, which a test has registered with the redirect URI `REDIRECT`."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, urlsplit

from tests.unit.core.node import Node
from token_service.core.login.requests import AuthorizationRequest
from token_service.core.login.upstream import Login

REDIRECT = "https://app.example/cb"


async def login_challenge(node: Node[Any]) -> str:
    """Return the challenge of a login that has begun now."""
    request = AuthorizationRequest(
        client_id="app",
        redirect_uri=REDIRECT,
        code_challenge="c" * 43,
        scopes=(),
        audience=(node.core.options.issuer,),
    )
    login = Login(
        id="login-1", request=request, upstream="inhouse", secret="s", expire_time=node.clock.now() + 60
    )
    url = await node.core.oauth.login.upstreams.challenge("https://login.example/in").login_url(login)
    return parse_qs(urlsplit(url).query)["login_challenge"][0]
