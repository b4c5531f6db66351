"""Tokens that are bound to a key, in requests to the ASGI and the WSGI middleware."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import ssl
import time
from typing import Any

import pytest

from tests.support.certificates import Authority
from tests.support.http_askers import KINDS, Answer, ask, judge_for, made
from tests.support.token_mint import Mint
from tests.unit.tokens.dpop_proofs import ProofMaker
from token_service.client.proof_rules import ProofRules
from token_service.errors import ConfigurationError
from token_service.tokens.secret import Secret

ORIGIN = "https://api.example"
DPOP = ProofRules(origins=[ORIGIN])
PROXIES: Any = {"trusted_proxies": ["10.0.0.0/8", "unix"]}
MINT = Mint("ES256")
KEY = ProofMaker()
pytestmark = pytest.mark.parametrize("kind", KINDS)


def bound(**changes: Any) -> str:
    return MINT.token(time.time(), **{"cnf": {"jkt": KEY.jkt}, **changes})


def with_proof(
    token: str, *, scheme: str = "DPoP", maker: ProofMaker = KEY, **proof: Any
) -> list[tuple[str, str]]:
    made = maker.proof(token=token, **{"uri": f"{ORIGIN}/orders", "now": time.time(), **proof})
    return [("authorization", f"{scheme} {token}"), ("dpop", made)]


def verdict(answer: Answer) -> tuple[int, str | None]:
    return answer.status, answer.error


async def test_a_proof_of_the_key_is_accepted(kind: str) -> None:
    for headers in (with_proof(bound()), with_proof(bound(), scheme="dpop")):
        answer = await ask(kind, MINT, headers=headers, proofs=DPOP)
        assert (answer.status, answer.body) == (200, "user-1")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"scheme": "Bearer"}, (401, "invalid_token")),
        ({"method": "POST"}, (401, "invalid_dpop_proof")),
        ({"uri": f"{ORIGIN}/payments"}, (401, "invalid_dpop_proof")),
        ({"uri": "https://other.example/orders"}, (401, "invalid_dpop_proof")),
        ({"uri": "http://api.example/orders"}, (401, "invalid_dpop_proof")),
        ({"uri": "/orders"}, (401, "invalid_dpop_proof")),
        ({"uri": ""}, (401, "invalid_dpop_proof")),
        ({"now": 1}, (401, "invalid_dpop_proof")),
        ({"ath": "x"}, (401, "invalid_dpop_proof")),
        ({"maker": ProofMaker()}, (401, "invalid_token")),
        ({"header": {"typ": "JWT"}}, (401, "invalid_dpop_proof")),
    ],
)
async def test_any_other_proof_is_refused(kind: str, change: Any, expected: Any) -> None:
    judge = judge_for(kind, MINT)
    answer = await ask(kind, MINT, headers=with_proof(bound(), **change), proofs=DPOP, judge=judge)
    assert verdict(answer) == expected
    assert sum(judge.counters.rejected.values()) == 1


async def test_a_bound_token_without_proof_is_refused(kind: str) -> None:
    token = bound()
    for scheme in ("Bearer", "DPoP"):
        for proofs in (None, DPOP):
            headers = [("authorization", f"{scheme} {token}")]
            answer = await ask(kind, MINT, headers=headers, proofs=proofs)
            assert verdict(answer) == (401, "invalid_token")
            schemes = [value.split(" ")[0] for value in answer.values("www-authenticate")]
            assert schemes == (["Bearer"] if proofs is None else ["Bearer", "DPoP"])


async def test_a_proof_is_accepted_once(kind: str) -> None:
    middleware = made(kind, MINT, proofs=DPOP)
    headers = with_proof(bound())
    assert (await ask(kind, MINT, headers=headers, middleware=middleware)).status == 200
    again = await ask(kind, MINT, headers=headers, middleware=middleware)
    assert verdict(again) == (401, "invalid_dpop_proof")
    assert (await ask(kind, MINT, headers=with_proof(bound()), middleware=middleware)).status == 200


async def test_without_an_origin_no_dpop_proof_is_accepted(kind: str) -> None:
    for proofs in (None, ProofRules(**PROXIES, client_cert=True)):
        answer = await ask(kind, MINT, headers=with_proof(bound()), proofs=proofs)
        assert verdict(answer) == (401, "invalid_token")
        assert answer.values("www-authenticate")[0].startswith("Bearer ")


async def test_the_host_of_a_stranger_does_not_count(kind: str) -> None:
    evil = with_proof(bound(), uri="https://evil.example/orders")
    forwarded = [("x-forwarded-host", "evil.example"), ("x-forwarded-proto", "https")]
    for proofs in (DPOP, ProofRules(**PROXIES, forwarded_origin=True)):
        answer = await ask(kind, MINT, headers=[*evil, *forwarded], host="evil.example", proofs=proofs)
        assert verdict(answer) == (401, "invalid_dpop_proof")
    # Not even a trusted proxy replaces an origin that is configured.
    answer = await ask(
        kind,
        MINT,
        headers=[*evil, *forwarded],
        peer="10.1.2.3",
        proofs=ProofRules(**PROXIES, origins=[ORIGIN]),
    )
    assert verdict(answer) == (401, "invalid_dpop_proof")


async def test_a_proof_may_be_for_each_of_several_origins(kind: str) -> None:
    proofs = ProofRules(origins=["https://api.example:443", "HTTPS://Shop.Example"])
    for origin, status in [(ORIGIN, 200), ("https://shop.example", 200), ("https://shop.example.evil", 401)]:
        headers = with_proof(bound(), uri=f"{origin}/orders")
        assert (await ask(kind, MINT, headers=headers, proofs=proofs)).status == status
    for garbage in ("x", "a.b.c", "..", "é"):
        headers = [("authorization", f"DPoP {bound()}"), ("dpop", garbage)]
        assert verdict(await ask(kind, MINT, headers=headers, proofs=proofs)) == (401, "invalid_dpop_proof")


@pytest.mark.parametrize(
    ("headers", "peer", "status"),
    [
        ({"x-forwarded-proto": "https", "x-forwarded-host": "api.example"}, "10.1.2.3", 200),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "api.example:443"}, "10.1.2.3", 200),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "api.example"}, "::ffff:10.1.2.3", 200),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "api.example"}, "", 200),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "api.example"}, "11.1.2.3", 401),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "api.example"}, "localhost", 401),
        ({"x-forwarded-proto": "http", "x-forwarded-host": "api.example"}, "10.1.2.3", 401),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "evil.example, api.example"}, "10.1.2.3", 401),
        ({"x-forwarded-proto": "https, https", "x-forwarded-host": "api.example"}, "10.1.2.3", 401),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "api.example/orders"}, "10.1.2.3", 401),
        ({"x-forwarded-proto": "https", "x-forwarded-host": "me@api.example"}, "10.1.2.3", 401),
        ({"x-forwarded-proto": "https"}, "10.1.2.3", 401),
        ({"x-forwarded-host": "api.example"}, "10.1.2.3", 401),
    ],
)
async def test_trusted_proxies_tell_the_origin(kind: str, headers: Any, peer: str, status: int) -> None:
    proofs = ProofRules(**PROXIES, forwarded_origin=True)
    answer = await ask(
        kind,
        MINT,
        headers=[*with_proof(bound()), *headers.items()],
        peer=peer,
        host="inner:8000",
        proofs=proofs,
    )
    assert answer.status == status


async def test_the_uri_is_the_path_as_it_was_sent(kind: str) -> None:
    for target, uri, root in [
        ("/caf%C3%A9", "/caf%C3%A9", ""),
        ("/caf%c3%a9", "/caf%C3%A9", ""),
        ("/orders?x=1", "/orders", ""),
        ("/orders?x=1", "/orders?y=2", ""),
        ("/a%20b", "/a%20b", ""),
        ("/orders", "/shop/orders", "/shop"),
    ]:
        headers = with_proof(bound(), uri=ORIGIN + uri)
        answer = await ask(kind, MINT, target, headers, root=root, proofs=DPOP)
        assert (target, answer.status) == (target, 200)
    headers = with_proof(bound(), uri=f"{ORIGIN}/orders")
    assert (await ask(kind, MINT, "/orders", headers, root="/shop", proofs=DPOP)).status == 401


async def test_more_than_one_header_is_refused(kind: str) -> None:
    first, second = with_proof(bound()), with_proof(bound())
    answer = await ask(kind, MINT, headers=[*first, second[1]], proofs=DPOP)
    assert verdict(answer) == (401, "invalid_dpop_proof")
    answer = await ask(kind, MINT, headers=[*first, second[0]], proofs=DPOP)
    assert verdict(answer) == (400, "invalid_request")


async def test_a_bearer_token_does_not_take_the_scheme_of_proofs(kind: str) -> None:
    plain = MINT.token(time.time())
    for proofs in (None, DPOP):
        answer = await ask(kind, MINT, headers=with_proof(plain), proofs=proofs)
        assert verdict(answer) == (401, "invalid_token")
        # A proof that is not needed does no harm.
        answer = await ask(kind, MINT, headers=with_proof(plain, scheme="Bearer"), proofs=proofs)
        assert answer.status == 200


async def test_nonces_are_demanded_where_they_are_configured(kind: str) -> None:
    keys = [Secret(b"k" * 32)]
    middleware = made(kind, MINT, proofs=ProofRules(origins=[ORIGIN], nonce_keys=keys))
    first = await ask(kind, MINT, headers=with_proof(bound()), middleware=middleware)
    assert verdict(first) == (401, "use_dpop_nonce")
    [challenge] = first.values("www-authenticate")
    assert challenge.startswith("DPoP ")
    [nonce] = first.values("dpop-nonce")
    headers = with_proof(bound(), nonce=nonce)
    assert (await ask(kind, MINT, headers=headers, middleware=middleware)).status == 200
    headers = with_proof(bound(), nonce="x" * len(nonce))
    assert verdict(await ask(kind, MINT, headers=headers, middleware=middleware)) == (401, "use_dpop_nonce")
    # Another process with the key accepts the nonce, and the nonce of a retired key, too.
    other = made(kind, MINT, proofs=ProofRules(origins=[ORIGIN], nonce_keys=[Secret(b"n" * 32), *keys]))
    headers = with_proof(bound(), nonce=nonce)
    assert (await ask(kind, MINT, headers=headers, middleware=other)).status == 200


async def test_applications_may_check_possession_themselves(kind: str) -> None:
    token = bound()
    for headers in (
        [("authorization", f"Bearer {token}")],
        [("authorization", f"DPoP {token}")],
        with_proof(token, method="POST"),
    ):
        answer = await ask(kind, MINT, headers=headers, allow_bound_tokens=True)
        assert (answer.status, answer.body) == (200, "user-1")


async def test_requirements_are_checked_for_bound_tokens_too(kind: str) -> None:
    headers = with_proof(bound())
    answer = await ask(kind, MINT, headers=headers, proofs=DPOP, default_scopes=["admin"])
    assert verdict(answer) == (403, "insufficient_scope")


async def test_two_middlewares_need_one_proof(kind: str) -> None:
    inner = made(kind, MINT, proofs=DPOP)
    outer = made(kind, MINT, app=inner, proofs=DPOP)
    headers = with_proof(bound())
    assert (await ask(kind, MINT, headers=headers, middleware=outer)).status == 200
    again = await ask(kind, MINT, headers=headers, middleware=outer)
    assert verdict(again) == (401, "invalid_dpop_proof")


# --- Client certificates ----------------------------------------------------------------------------------------------

AUTHORITY = Authority()
CERTIFICATE = AUTHORITY.caller(dns_name="client.test").certificate.decode()
DER = ssl.PEM_cert_to_DER_cert(CERTIFICATE)
OTHER = AUTHORITY.caller(dns_name="client.test").certificate.decode()
THUMBPRINT = base64.urlsafe_b64encode(hashlib.sha256(DER).digest()).rstrip(b"=").decode()
CLIENT_CERT = f":{base64.b64encode(DER).decode()}:"


def of_certificate() -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {bound(cnf={'x5t#S256': THUMBPRINT})}")]


async def test_the_certificate_of_the_connection_is_proof(kind: str) -> None:
    for certificate, status in [(CERTIFICATE, 200), (OTHER, 401), ("", 401)]:
        answer = await ask(kind, MINT, headers=of_certificate(), certificate=certificate)
        assert answer.status == status


@pytest.mark.parametrize(
    ("rules", "peer", "values", "status"),
    [
        ({"client_cert": True}, "10.1.2.3", [CLIENT_CERT], 200),
        ({"client_cert": True}, "", [CLIENT_CERT], 200),
        ({"client_cert": False}, "10.1.2.3", [CLIENT_CERT], 401),
        ({"client_cert": True}, "203.0.113.9", [CLIENT_CERT], 401),
        ({"client_cert": True}, "10.1.2.3", [], 401),
        ({"client_cert": True}, "10.1.2.3", [CLIENT_CERT, CLIENT_CERT], 400),
        ({"client_cert": True}, "10.1.2.3", [CLIENT_CERT[1:-1]], 400),
        ({"client_cert": True}, "10.1.2.3", [":A:"], 400),
        ({"client_cert": True}, "10.1.2.3", ["::"], 400),
        ({"client_cert": True}, "10.1.2.3", [":AAAA:"], 401),
    ],
)
async def test_client_cert_of_trusted_proxies_is_believed_by_configuration(
    kind: str, rules: Any, peer: str, values: list[str], status: int
) -> None:
    headers = [*of_certificate(), *(("client-cert", value) for value in values)]
    answer = await ask(kind, MINT, headers=headers, peer=peer, proofs=ProofRules(**PROXIES, **rules))
    assert answer.status == status


async def test_the_certificate_of_a_proxy_is_not_that_of_its_client(kind: str) -> None:
    answer = await ask(
        kind,
        MINT,
        headers=of_certificate(),
        peer="10.1.2.3",
        certificate=CERTIFICATE,
        proofs=ProofRules(**PROXIES),
    )
    assert verdict(answer) == (401, "invalid_token")


async def test_a_key_of_unknown_kind_is_refused(kind: str) -> None:
    headers = [("authorization", f"Bearer {bound(cnf={'kid': 'x'})}")]
    answer = await ask(kind, MINT, headers=headers, certificate=CERTIFICATE, proofs=DPOP)
    assert verdict(answer) == (401, "invalid_token")


@pytest.mark.parametrize(
    "wrong",
    [
        {"origins": "https://api.example"},
        {"origins": ["api.example"]},
        {"origins": ["https://api.example/shop"]},
        {"origins": ["https://api.example?"]},
        {"origins": ["wss://api.example"]},
        {"trusted_proxies": "10.0.0.0/8"},
        {"trusted_proxies": ["10.0.0.1/8"]},
        {"trusted_proxies": ["proxy.internal"]},
        {"client_cert": True},
        {"forwarded_origin": True},
        {"nonce_keys": [Secret(b"k" * 32)]},
        {"origins": [ORIGIN], "nonce_keys": [Secret(b"k" * 31)]},
        {"origins": [ORIGIN], "max_age": 0},
        {"origins": [ORIGIN], "max_age": 601},
    ],
    ids=range(14),
)
def test_unusable_rules_are_refused(kind: str, wrong: Any) -> None:
    with pytest.raises(ConfigurationError):
        ProofRules(**wrong)


async def test_concurrent_requests_use_a_proof_once(kind: str) -> None:
    middleware = made(kind, MINT, proofs=DPOP)
    headers = with_proof(bound())

    async def one() -> int:
        if kind == "asgi":
            return (await ask(kind, MINT, headers=headers, middleware=middleware)).status
        return await asyncio.to_thread(
            lambda: asyncio.run(ask(kind, MINT, headers=headers, middleware=middleware)).status
        )

    statuses = await asyncio.gather(*(one() for _ in range(8)))
    assert sorted(statuses) == [200] + [401] * 7
