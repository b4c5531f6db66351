"""Tokens that are bound to a key at the endpoints that issue them (RFC 9449, sections 5, 8 and 10; RFC 8705, section 3)."""

from __future__ import annotations

import ipaddress
from base64 import b64encode
from dataclasses import replace
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding

from tests.support.certificates import Authority
from tests.unit.core.node import Node
from tests.unit.core.virtual_time import ManualClock
from tests.unit.tokens.dpop_proofs import ProofMaker
from tests.unit.web.oauth.bound_scene import PAR, TOKEN, Bound, bound_to, ok, refusal
from tests.unit.web.oauth.browser_login import PARAMETERS
from tests.unit.web.oauth.device_scene import TV, DeviceScene
from tests.unit.web.oauth.oauth_app import ADDRESS, OAuthApp
from token_service.core.clients.client import TOKEN_EXCHANGE, SecurityProfile
from token_service.core.grants.presented import ACCESS_TOKEN
from token_service.tokens import base64url
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import Confirmation
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.secret import Secret
from token_service.web.peer import Peers, TrustedProxies

INVALID = ("invalid_dpop_proof", "PROOF_INVALID")
NO_PROOF = ("invalid_request", "BINDING_REQUIRED")
WRONG = ("invalid_grant", "WRONG_KEY")
NONCE = ("use_dpop_nonce", "PROOF_NONCE_REQUIRED")


@pytest.fixture
async def bound(app: OAuthApp) -> Bound:
    return await Bound.make(app)


def demand_nonces(app: OAuthApp) -> None:
    app.node.policy = replace(app.node.policy, dpop_nonces=True)


# --- The proof --------------------------------------------------------------------------------------------------------


async def test_token_is_bound_to_the_key_of_the_proof(bound: Bound) -> None:
    answer = await bound.token(bound.proof())
    assert bound_to(answer) == {"jkt": bound.key.jkt}
    assert "dpop-nonce" not in answer.headers
    assert bound_to(await bound.token(None)) is None


@pytest.mark.parametrize(
    "changes",
    [
        {"uri": "https://issuer.example/introspect"},
        {"uri": "https://attacker.example/token"},
        {"uri": "http://issuer.example/token"},
        {"method": "GET"},
        {"now": 1_800_000_000.0 - 71},
        {"now": 1_800_000_000.0 + 11},
        {"jti": ...},
        {"header": {"typ": "JWT"}},
        {"pad": "x" * 7000},
    ],
    ids=str,
)
async def test_proof_for_another_request_or_time_is_refused(bound: Bound, changes: dict[str, Any]) -> None:
    assert bound.app.clock.now() == 1_800_000_000.0
    assert refusal(await bound.token(bound.proof(**changes))) == INVALID


@pytest.mark.parametrize("text", ["", "x", "a.b.c", "é.é.é"])
async def test_text_that_is_no_proof_is_refused(bound: Bound, text: str) -> None:
    parameters = {"grant_type": "client_credentials"}
    headers = [
        (b"DPoP", text.encode()),
        *((n.encode(), v.encode()) for n, v in bound.app.basic("batch").items()),
    ]
    answer = await bound.app.http.post("/token", data=parameters, headers=headers)
    assert refusal(answer) == INVALID


async def test_second_header_is_refused(bound: Bound) -> None:
    headers = [("DPoP", bound.proof()), ("DPoP", bound.proof()), *bound.app.basic("batch").items()]
    answer = await bound.app.http.post("/token", data={"grant_type": "client_credentials"}, headers=headers)
    assert refusal(answer) == INVALID
    joined = await bound.token(f"{bound.proof()}, {bound.proof()}")
    assert refusal(joined) == INVALID


async def test_host_of_the_request_does_not_count(bound: Bound) -> None:
    url = "https://attacker.example/token"
    values = {"data": {"grant_type": "client_credentials"}}
    basic = bound.app.basic("batch")
    stranger = await bound.app.http.post(url, **values, headers={**basic, "DPoP": bound.proof(uri=url)})  # type: ignore[arg-type]
    assert refusal(stranger) == INVALID
    announced = await bound.app.http.post(url, **values, headers={**basic, "DPoP": bound.proof(uri=TOKEN)})  # type: ignore[arg-type]
    assert bound_to(announced) == {"jkt": bound.key.jkt}


async def test_proof_counts_once_on_all_nodes(bound: Bound) -> None:
    stores = bound.app.node.stores
    other = OAuthApp(
        await Node(ManualClock(), stores=stores, node_id="node-2", seed=2, max_staleness=1e12).start()
    )
    proof = bound.proof()
    assert bound_to(await bound.token(proof)) == {"jkt": bound.key.jkt}
    assert refusal(await bound.token(proof)) == INVALID
    headers = {**bound.app.basic("batch"), "DPoP": proof}
    again = await other.post("/token", {"grant_type": "client_credentials"}, headers=headers)
    assert refusal(again) == INVALID
    await other.close()


async def test_refused_request_does_not_use_up_its_proof(bound: Bound) -> None:
    proof = bound.proof()
    assert refusal(await bound.token(proof, scope="unknown"))[0] == "invalid_scope"
    assert bound_to(await bound.token(proof)) == {"jkt": bound.key.jkt}


# --- Nonces -----------------------------------------------------------------------------------------------------------


async def test_client_whose_policy_demands_nonces_is_given_one(bound: Bound) -> None:
    demand_nonces(bound.app)
    first = await bound.token(bound.proof())
    assert refusal(first) == NONCE
    nonce = first.headers["dpop-nonce"]
    answer = await bound.token(bound.proof(nonce=nonce))
    assert bound_to(answer) == {"jkt": bound.key.jkt}
    assert answer.headers["dpop-nonce"] == nonce
    bound.app.clock.elapsed += 61
    later = await bound.token(bound.proof(nonce=nonce))
    assert bound_to(later) == {"jkt": bound.key.jkt}
    assert later.headers["dpop-nonce"] != nonce
    bound.app.clock.elapsed += 61
    assert refusal(await bound.token(bound.proof(nonce=nonce))) == NONCE


async def test_nonce_of_another_service_is_refused(bound: Bound) -> None:
    demand_nonces(bound.app)
    foreign = DpopNonces([Secret(b"k" * 32)]).current(bound.app.clock.now())
    assert refusal(await bound.token(bound.proof(nonce=foreign))) == NONCE


async def test_all_nodes_accept_the_same_nonce(bound: Bound) -> None:
    demand_nonces(bound.app)
    nonce = (await bound.token(bound.proof())).headers["dpop-nonce"]
    other = OAuthApp(
        await Node(
            ManualClock(), stores=bound.app.node.stores, node_id="node-2", seed=2, max_staleness=1e12
        ).start()
    )
    demand_nonces(other)
    headers = {**bound.app.basic("batch"), "DPoP": bound.proof(nonce=nonce)}
    answer = await other.post("/token", {"grant_type": "client_credentials"}, headers=headers)
    assert bound_to(answer) == {"jkt": bound.key.jkt}
    await other.close()


async def test_client_of_the_fapi_profile_needs_a_nonce() -> None:
    bound = await Bound.make(await OAuthApp.start(algorithm=Algorithm.ES256))
    await bound.app.register_assertion_client("bank", security_profile=SecurityProfile.FAPI2)
    parameters = {"grant_type": "client_credentials", **bound.app.assertion("bank")}
    answer = await bound.app.post("/token", parameters, headers={"DPoP": bound.proof()})
    assert refusal(answer) == NONCE
    await bound.app.close()


# --- The registration of the client -----------------------------------------------------------------------------------


async def test_client_that_is_registered_for_dpop_gets_no_bearer_token(bound: Bound) -> None:
    await bound.app.register("strict", dpop_bound_access_tokens=True)
    assert refusal(await bound.token(None, "strict")) == NO_PROOF
    assert bound_to(await bound.token(bound.proof(), "strict")) == {"jkt": bound.key.jkt}


async def test_policy_that_demands_a_key_is_met_by_a_proof(bound: Bound) -> None:
    bound.app.node.policy = replace(bound.app.node.policy, binding_required=True)
    assert refusal(await bound.token(None)) == NO_PROOF
    assert bound_to(await bound.token(bound.proof())) == {"jkt": bound.key.jkt}


async def test_client_that_is_registered_for_its_certificate_gets_no_other_token(bound: Bound) -> None:
    await bound.app.register("strict", tls_client_certificate_bound_access_tokens=True)
    assert refusal(await bound.token(None, "strict")) == NO_PROOF
    assert refusal(await bound.token(bound.proof(), "strict"))[0] == "invalid_request"


# --- Authorization codes ----------------------------------------------------------------------------------------------


async def test_code_without_a_key_takes_the_key_of_its_exchange(bound: Bound) -> None:
    answer = await bound.exchange_code(await bound.code(), bound.proof())
    assert bound_to(answer) == {"jkt": bound.key.jkt}
    assert bound_to(await bound.exchange_code(await bound.code(), None)) is None


@pytest.mark.parametrize("way", ["authorize", "par", "header", "both"])
async def test_stolen_code_is_of_no_use_without_its_key(bound: Bound, way: str) -> None:
    parameters = {"dpop_jkt": bound.key.jkt} if way != "header" else {}
    if way == "authorize":
        code = await bound.code(**parameters)
    else:
        if way == "par":
            pushed = ok(await bound.app.post("/par", {**PARAMETERS, **parameters}))
        else:
            pushed = ok(await bound.push(bound.proof(uri=PAR), **parameters))
        code = await bound.code(request_uri=pushed["request_uri"])
    assert refusal(await bound.exchange_code(code, bound.proof(bound.other))) == WRONG
    assert refusal(await bound.exchange_code(code, None)) == NO_PROOF
    assert bound_to(await bound.exchange_code(code, bound.proof())) == {"jkt": bound.key.jkt}


async def test_pushed_request_names_one_key(bound: Bound) -> None:
    other = await bound.push(bound.proof(uri=PAR), dpop_jkt=bound.other.jkt)
    assert refusal(other) == ("invalid_request", "INVALID_REQUEST")
    assert refusal(await bound.push(bound.proof())) == INVALID  # the proof is for the token endpoint
    proof = bound.proof(uri=PAR)
    ok(await bound.push(proof))
    assert refusal(await bound.push(proof)) == INVALID


async def test_malformed_key_of_a_code_is_refused(bound: Bound) -> None:
    answer = await bound.app.post("/par", {**PARAMETERS, "dpop_jkt": "x"})
    assert refusal(answer)[0] == "invalid_request"


async def test_pushing_client_is_given_a_nonce(bound: Bound) -> None:
    demand_nonces(bound.app)
    first = await bound.push(bound.proof(uri=PAR))
    assert refusal(first) == NONCE
    nonce = first.headers["dpop-nonce"]
    pushed = await bound.push(bound.proof(uri=PAR, nonce=nonce))
    assert (pushed.status_code, pushed.headers["dpop-nonce"]) == (201, nonce)


# --- Refresh ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rotate", [True, False])
async def test_session_is_refreshed_with_its_key_only(bound: Bound, *, rotate: bool) -> None:
    bound.app.node.policy = replace(bound.app.node.policy, rotate=rotate)
    issued = await bound.session()
    stolen = await bound.refresh(issued["refresh_token"], bound.proof(bound.other))
    assert refusal(stolen) == WRONG
    assert refusal(await bound.refresh(issued["refresh_token"], None)) == NO_PROOF
    answer = await bound.refresh(issued["refresh_token"], bound.proof())
    assert bound_to(answer) == {"jkt": bound.key.jkt}
    assert (answer.json()["refresh_token"] != issued["refresh_token"]) is rotate


async def test_retry_in_the_grace_period_needs_the_key_too(bound: Bound) -> None:
    issued = await bound.session()
    first = ok(await bound.refresh(issued["refresh_token"], bound.proof()))
    assert refusal(await bound.refresh(issued["refresh_token"], bound.proof(bound.other))) == WRONG
    again = await bound.refresh(issued["refresh_token"], bound.proof())
    assert bound_to(again) == {"jkt": bound.key.jkt}
    assert again.json()["refresh_token"] == first["refresh_token"]


async def test_reused_refresh_token_with_another_key_revokes_nothing(bound: Bound) -> None:
    issued = await bound.session()
    current = ok(await bound.refresh(issued["refresh_token"], bound.proof()))["refresh_token"]
    bound.app.clock.elapsed += bound.app.node.policy.grace_period + 1
    assert refusal(await bound.refresh(issued["refresh_token"], bound.proof(bound.other))) == WRONG
    assert bound_to(await bound.refresh(current, bound.proof())) == {"jkt": bound.key.jkt}


async def test_refresh_with_a_used_proof_does_not_use_up_the_refresh_token(bound: Bound) -> None:
    proof = bound.proof()
    issued = ok(await bound.exchange_code(await bound.code(), proof))
    assert refusal(await bound.refresh(issued["refresh_token"], proof)) == INVALID
    rotated = ok(await bound.refresh(issued["refresh_token"], bound.proof()))
    assert rotated["refresh_token"] != issued["refresh_token"]


async def test_access_token_of_a_session_without_a_key_takes_the_key_of_the_request(bound: Bound) -> None:
    issued = ok(await bound.exchange_code(await bound.code(), None))
    answer = await bound.refresh(issued["refresh_token"], bound.proof())
    assert bound_to(answer) == {"jkt": bound.key.jkt}
    assert bound_to(await bound.refresh(answer.json()["refresh_token"], None)) is None


# --- Other grants -----------------------------------------------------------------------------------------------------


async def test_tokens_of_a_device_are_bound_to_its_key(app: OAuthApp) -> None:
    scene, key = await DeviceScene.make(app), ProofMaker()
    begun = ok(await scene.authorize())
    await scene.approve(begun["user_code"])
    proof = key.proof(token=None, method="POST", uri=TOKEN, now=app.clock.now())
    parameters = {
        "grant_type": TV["grant_types"][0],
        "client_id": "tv",
        "device_code": begun["device_code"],
    }
    answer = await app.post("/token", parameters, headers={"DPoP": proof})
    assert bound_to(answer) == {"jkt": key.jkt}
    refresh = {
        "grant_type": "refresh_token",
        "client_id": "tv",
        "refresh_token": answer.json()["refresh_token"],
    }
    assert refusal(await app.post("/token", refresh)) == NO_PROOF


async def test_bound_token_is_exchanged_with_a_proof_of_its_key(bound: Bound) -> None:
    subject = ok(await bound.token(bound.proof()))["access_token"]
    parameters = {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": subject,
        "subject_token_type": ACCESS_TOKEN,
    }
    for proof in (None, bound.proof(bound.other)):
        refused = await bound.token(proof, **parameters)
        assert refusal(refused) == ("invalid_request", "SUBJECT_TOKEN_INVALID")
    assert bound_to(await bound.token(bound.proof(), **parameters)) == {"jkt": bound.key.jkt}


async def test_exchanged_bearer_token_is_bound_to_the_key_of_the_request(bound: Bound) -> None:
    subject = ok(await bound.token(None))["access_token"]
    parameters = {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": subject,
        "subject_token_type": ACCESS_TOKEN,
    }
    assert bound_to(await bound.token(bound.proof(), **parameters)) == {"jkt": bound.key.jkt}


# --- Certificates behind a proxy --------------------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", [True, False])
async def test_certificate_of_a_proxy_binds_tokens_if_the_proxy_is_trusted(*, trusted: bool) -> None:
    """The certificate is self-made: no authority is known here."""
    network = ipaddress.ip_network(f"{ADDRESS}/32" if trusted else "203.0.113.0/24")
    peers = Peers(TrustedProxies(networks=(network,), client_cert=True))
    app = await OAuthApp.start(peers=peers)
    await app.register("batch", tls_client_certificate_bound_access_tokens=True)
    certificates = [x509.load_pem_x509_certificate(Authority().caller().certificate) for _ in range(2)]

    async def ask(path: str, certificate: x509.Certificate, **options: Any) -> httpx.Response:
        header = f":{b64encode(certificate.public_bytes(Encoding.DER)).decode()}:"
        headers = {"X-Forwarded-For": "192.0.2.99", "Client-Cert": header, **options.pop("headers", {})}
        return await app.http.request(options.pop("method", "POST"), path, headers=headers, **options)

    request = {"data": {"grant_type": "client_credentials"}, "headers": app.basic("batch")}
    answer = await ask("/token", certificates[0], **request)
    if not trusted:
        assert refusal(answer) == NO_PROOF
        return
    thumbprint = base64url.encode(certificates[0].fingerprint(SHA256()))
    assert bound_to(answer) == {"x5t#S256": thumbprint}
    issued = await app.node.issue(
        client_id="app", scopes=("openid",), confirmation=Confirmation(x5t_s256=thumbprint)
    )
    bearer: dict[str, Any] = {"method": "GET", "headers": {"Authorization": f"Bearer {issued.access_token}"}}
    assert ok(await ask("/userinfo", certificates[0], **bearer)) == {"sub": "alice"}
    assert refusal(await ask("/userinfo", certificates[1], **bearer), 401)[0] == "invalid_token"
    assert refusal(await app.http.get("/userinfo", headers=bearer["headers"]), 401)[0] == "invalid_token"
    await app.close()
