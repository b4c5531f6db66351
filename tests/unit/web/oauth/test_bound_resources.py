"""Bound tokens at the protected resources of the service: userinfo and introspection (RFC 9449, section 7)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.web.oauth.bound_scene import Bound, ok, refusal
from tests.unit.web.oauth.oauth_app import OAuthApp
from token_service.core.policies.rights import Permission
from token_service.tokens.dpop import DPOP_ALGORITHMS

INVALID = ("invalid_dpop_proof", "PROOF_INVALID")
REFUSED = ("invalid_token", "CALLER_UNAUTHENTICATED")
ALGORITHMS = f'algs="{" ".join(DPOP_ALGORITHMS)}"'
INTROSPECT = "https://issuer.example/introspect"


@pytest.fixture
async def bound(app: OAuthApp) -> Bound:
    return await Bound.make(app)


@pytest.fixture
async def token(bound: Bound) -> str:
    text: str = (await bound.session())["access_token"]
    return text


async def test_userinfo_takes_a_bound_token_with_its_proof(bound: Bound, token: str) -> None:
    answer = await bound.userinfo(token, bound.resource_proof(token))
    assert ok(answer) == {"sub": "alice"}
    posted = await bound.userinfo(token, bound.resource_proof(token, method="POST"), method="POST")
    assert ok(posted) == {"sub": "alice"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"ath": ...}, INVALID),
        ({"token": "another.token"}, INVALID),
        ({"uri": "https://issuer.example/token"}, INVALID),
        ({"method": "POST"}, INVALID),
        ({"now": 1_800_000_000.0 - 71}, INVALID),
    ],
)
async def test_userinfo_refuses_a_proof_for_something_else(
    bound: Bound, token: str, changes: dict[str, Any], expected: tuple[str, str]
) -> None:
    answer = await bound.userinfo(token, bound.resource_proof(**{"token": token, **changes}))
    assert refusal(answer, 401) == expected
    challenge = f'DPoP realm="token-service", error="{expected[0]}", {ALGORITHMS}'
    assert answer.headers["www-authenticate"] == challenge


async def test_userinfo_refuses_the_proof_of_another_key(bound: Bound, token: str) -> None:
    answer = await bound.userinfo(token, bound.resource_proof(token, bound.other))
    assert refusal(answer, 401) == REFUSED


async def test_userinfo_takes_a_proof_once(bound: Bound, token: str) -> None:
    proof = bound.resource_proof(token)
    ok(await bound.userinfo(token, proof))
    assert refusal(await bound.userinfo(token, proof), 401) == INVALID


async def test_bound_token_is_no_bearer_token(bound: Bound, token: str) -> None:
    for proof in (None, bound.resource_proof(token)):
        answer = await bound.userinfo(token, proof, scheme="Bearer")
        assert refusal(answer, 401) == REFUSED
        assert answer.headers["www-authenticate"].startswith(
            'DPoP realm="token-service", error="invalid_token"'
        )
    form = {"access_token": token}
    posted = await bound.app.http.post(
        "/userinfo", data=form, headers={"DPoP": bound.resource_proof(token, method="POST")}
    )
    assert refusal(posted, 401) == REFUSED


async def test_scheme_dpop_without_a_proof_is_refused(bound: Bound, token: str) -> None:
    assert refusal(await bound.userinfo(token, None), 401) == REFUSED


async def test_bearer_token_is_refused_with_the_scheme_dpop(bound: Bound) -> None:
    bearer = ok(await bound.exchange_code(await bound.code(), None))["access_token"]
    assert refusal(await bound.userinfo(bearer, bound.resource_proof(bearer)), 401) == REFUSED
    assert ok(await bound.userinfo(bearer, None, scheme="Bearer")) == {"sub": "alice"}


async def test_two_tokens_or_two_proofs_are_refused(bound: Bound, token: str) -> None:
    one, two = ("Authorization", f"DPoP {token}"), ("Authorization", f"Bearer {token}")
    first, second = (("DPoP", bound.resource_proof(token)) for _ in range(2))
    twice = await bound.app.http.get("/userinfo", headers=[one, two, first])
    assert twice.status_code == 400
    assert refusal(await bound.app.http.get("/userinfo", headers=[one, first, second]), 401) == INVALID


async def test_userinfo_gives_out_nonces(bound: Bound, token: str) -> None:
    bound.app.node.policy = replace(bound.app.node.policy, dpop_nonces=True)
    first = await bound.userinfo(token, bound.resource_proof(token))
    assert refusal(first, 401) == ("use_dpop_nonce", "PROOF_NONCE_REQUIRED")
    assert 'error="use_dpop_nonce"' in first.headers["www-authenticate"]
    nonce = first.headers["dpop-nonce"]
    answer = await bound.userinfo(token, bound.resource_proof(token, nonce=nonce))
    assert (ok(answer), answer.headers["dpop-nonce"]) == ({"sub": "alice"}, nonce)


async def test_introspection_tells_the_key_and_asks_for_no_proof(bound: Bound, token: str) -> None:
    await bound.app.register("gateway", Permission.VALIDATE)
    body = ok(await bound.app.post("/introspect", {"token": token}, client_id="gateway"))
    assert (body["active"], body["token_type"], body["cnf"]) == (True, "DPoP", {"jkt": bound.key.jkt})


async def test_caller_with_a_bound_token_proves_its_key(bound: Bound) -> None:
    """A caller identifies itself with an access token that is bound to a key."""
    issuer = bound.app.node.core.options.issuer
    await bound.app.register("gateway", Permission.VALIDATE, audiences=(issuer,))
    own = ok(await bound.token(bound.proof(), "gateway"))["access_token"]

    async def ask(scheme: str, proof: str | None) -> Any:
        headers = {"Authorization": f"{scheme} {own}", **({} if proof is None else {"DPoP": proof})}
        return await bound.app.post("/introspect", {"token": own}, headers=headers)

    def proof(**changes: Any) -> str:
        return bound.resource_proof(own, method="POST", **{"uri": INTROSPECT, **changes})

    used = proof()
    assert ok(await ask("DPoP", used))["active"] is True
    assert refusal(await ask("DPoP", used), 401) == INVALID
    assert refusal(await ask("DPoP", proof(uri="https://issuer.example/userinfo")), 401) == INVALID
    assert refusal(await ask("DPoP", None), 401) == REFUSED
    assert refusal(await ask("Bearer", proof()), 401) == REFUSED
    bound.app.node.policy = replace(bound.app.node.policy, dpop_nonces=True)
    asked = await ask("DPoP", proof())
    assert refusal(asked, 401)[0] == "use_dpop_nonce"
    assert ok(await ask("DPoP", proof(nonce=asked.headers["dpop-nonce"])))["active"] is True
