"""Bound tokens at the gRPC interceptors: each flaw of a proof, in all kinds of servers and handlers."""

from __future__ import annotations

import asyncio
import hashlib
import ssl
import time
from typing import Any

import grpc
import pytest

from tests.support.certificates import Authority, Certificate
from tests.support.fake_token_service import FakeTokenService
from tests.support.ports import free_port
from tests.unit.client.guarded_server import KINDS, SHAPES, Metadata, Server, call_of, presented, serving
from tests.unit.tokens.dpop_proofs import ProofMaker, b64
from token_service.client import DpopKey, MemoryTokenStore, SyncTokenSource, TokenCallCredentials, Tokens
from token_service.client.auth_rules import AuthRules
from token_service.client.proof_rules import ProofRules
from token_service.errors import ConfigurationError
from token_service.tokens.secret import Secret
from token_service.v1.token_service_pb2_grpc import TokenServiceStub

ORIGIN = "https://orders.example"
DPOP = AuthRules(proofs=ProofRules(origins=[ORIGIN]))
KEY = ProofMaker()
CODE = grpc.StatusCode


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def proof(token: str, shape: str = SHAPES[0], maker: ProofMaker = KEY, **changes: Any) -> str:
    known: dict[str, Any] = {
        "token": token,
        "method": "POST",
        "uri": f"{ORIGIN}/shop.Orders/{shape}",
        "now": time.time(),
        **changes,
    }
    return maker.proof(**known)


def bound(server: Server, **claims: Any) -> str:
    return server.token(cnf={"jkt": KEY.jkt}, **claims)


async def test_each_flaw_of_a_dpop_proof_is_refused(service: FakeTokenService, kind: str) -> None:
    def exercise(server: Server) -> None:
        token = bound(server)
        for shape in SHAPES:
            assert server.call(presented(token, proof(token, shape)), shape) == b"user-1"
        assert server.call(presented(token, proof(token), scheme="dpop")) == b"user-1"
        assert server.call(presented(server.token(), scheme="Bearer")) == b"user-1"
        other = ProofMaker()
        used = proof(token)
        assert server.call(presented(token, used)) == b"user-1"
        ed25519 = ProofMaker("EdDSA")
        token_of_ed25519 = server.token(cnf={"jkt": ed25519.jkt})
        assert server.call(presented(token_of_ed25519, proof(token_of_ed25519, maker=ed25519))) == b"user-1"
        now = time.time()
        flaws: list[tuple[Metadata, str]] = [
            (presented(token), "PROOF_MISSING"),
            (presented(token, scheme="Bearer"), "PROOF_MISSING"),
            (presented(token, proof(token), scheme="Bearer"), "PROOF_MISSING"),
            (presented(token, proof(token), proof(token)), "PROOF_INVALID"),
            (presented(token, used), "PROOF_INVALID"),
            (presented(token, "a.b.c"), "PROOF_INVALID"),
            (presented(token, ""), "PROOF_INVALID"),
            (presented(token, proof(token, method="GET")), "PROOF_INVALID"),
            (presented(token, proof(token, SHAPES[1])), "PROOF_INVALID"),
            (
                presented(token, proof(token, uri=f"https://other.example/shop.Orders/{SHAPES[0]}")),
                "PROOF_INVALID",
            ),
            (
                presented(token, proof(token, uri=f"https://{server.address}/shop.Orders/{SHAPES[0]}")),
                "PROOF_INVALID",
            ),
            (
                presented(token, proof(token, uri=f"http://orders.example/shop.Orders/{SHAPES[0]}")),
                "PROOF_INVALID",
            ),
            (presented(token, proof(token, ath=...)), "PROOF_INVALID"),
            (presented(token, proof(server.token())), "PROOF_INVALID"),
            (presented(token, proof(token, now=now - 300)), "PROOF_INVALID"),
            (presented(token, proof(token, now=now + 300)), "PROOF_INVALID"),
            (presented(token, proof(token, maker=other)), "WRONG_KEY"),
            (presented(server.token(), proof(token)), "WRONG_TYPE"),
            (presented(server.token(cnf={"kid": "key-1"}), proof(token)), "PROOF_MISSING"),
        ]
        for metadata, reason in flaws:
            assert server.refusal(metadata) == (CODE.UNAUTHENTICATED, reason), metadata
        for shape in SHAPES:
            assert server.refusal(presented(token), shape) == (CODE.UNAUTHENTICATED, "PROOF_MISSING")

    async with serving(service, kind, DPOP) as server:
        await asyncio.to_thread(exercise, server)


async def test_without_an_origin_dpop_tokens_are_refused(service: FakeTokenService, kind: str) -> None:
    def exercise(server: Server) -> None:
        token = bound(server)
        for scheme in ("DPoP", "Bearer"):
            refusal = server.refusal(presented(token, proof(token), scheme=scheme))
            assert refusal == (CODE.UNAUTHENTICATED, "PROOF_MISSING")

    async with serving(service, kind, AuthRules()) as server:
        await asyncio.to_thread(exercise, server)


async def test_bound_tokens_are_accepted_without_proof_on_request(
    service: FakeTokenService, kind: str
) -> None:
    def exercise(server: Server) -> None:
        for shape in SHAPES:
            assert server.call(presented(bound(server)), shape) == b"user-1"
            assert server.call(presented(bound(server), scheme="Bearer"), shape) == b"user-1"
        certified = server.token(cnf={"x5t#S256": "c" * 43})
        assert server.call(presented(certified, scheme="Bearer")) == b"user-1"

    async with serving(service, kind, AuthRules(allow_bound_tokens=True)) as server:
        await asyncio.to_thread(exercise, server)


async def test_proof_may_be_for_any_origin_of_the_server(service: FakeTokenService, kind: str) -> None:
    origins = [ORIGIN, "https://orders.example:8443", "https://orders.internal"]

    def exercise(server: Server) -> None:
        token = bound(server)
        for origin in origins:
            good = proof(token, uri=f"{origin}/shop.Orders/{SHAPES[0]}")
            assert server.call(presented(token, good)) == b"user-1"
            assert server.refusal(presented(token, good)) == (CODE.UNAUTHENTICATED, "PROOF_INVALID")
        for uri in (f"https://other.example/shop.Orders/{SHAPES[0]}", f"{ORIGIN}/shop.Orders/Drop", "", 7):
            refusal = server.refusal(presented(token, proof(token, uri=uri)))
            assert refusal == (CODE.UNAUTHENTICATED, "PROOF_INVALID")
        for malformed in ("a", "a.b", "a.b.c", "a" * 6000):
            assert server.refusal(presented(token, malformed))[1] == "PROOF_INVALID"

    async with serving(service, kind, AuthRules(proofs=ProofRules(origins=origins))) as server:
        await asyncio.to_thread(exercise, server)


async def test_refused_call_gets_the_nonce_that_its_proof_needs(service: FakeTokenService, kind: str) -> None:
    def exercise(server: Server) -> None:
        token = bound(server)
        info, error = server.refused(presented(token, proof(token)))
        assert (error.code(), info.reason) == (CODE.UNAUTHENTICATED, "PROOF_NONCE")
        trailers = dict(error.trailing_metadata())
        nonce = trailers["dpop-nonce"]
        for shape in SHAPES:
            assert server.call(presented(token, proof(token, shape, nonce=nonce)), shape) == b"user-1"
        wrong = server.refusal(presented(token, proof(token, nonce="x" * len(nonce))))
        assert wrong == (CODE.UNAUTHENTICATED, "PROOF_NONCE")
        _, error = server.refused([])
        assert "dpop-nonce" in dict(error.trailing_metadata())
        assert server.call(presented(server.token(), scheme="Bearer")) == b"user-1"

    rules = AuthRules(proofs=ProofRules(origins=[ORIGIN], nonce_keys=[Secret(b"k" * 32)]))
    async with serving(service, kind, rules) as server:
        await asyncio.to_thread(exercise, server)


def thumbprint(certificate: Certificate) -> str:
    pem = certificate.certificate.decode()
    return b64(hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).digest())


def tls(authority: Authority, *, client_certificates: bool = True) -> grpc.ServerCredentials:
    own = authority.server()
    return grpc.ssl_server_credentials(
        [(own.key, own.certificate)], authority.certificate, require_client_auth=client_certificates
    )


async def test_certificate_bound_token_needs_its_certificate(service: FakeTokenService, kind: str) -> None:
    authority = Authority()
    mine, other = authority.caller(dns_name="mine"), authority.caller(dns_name="mine")

    def exercise(server: Server) -> None:
        server.roots = authority.certificate
        token = server.token(cnf={"x5t#S256": thumbprint(mine)})
        for shape in SHAPES:
            good = presented(token, scheme="Bearer")
            assert server.call(good, shape, mine) == b"user-1"
            assert server.refusal(good, shape, other) == (CODE.UNAUTHENTICATED, "WRONG_KEY")
        assert server.call(presented(server.token(), scheme="Bearer"), SHAPES[0], other) == b"user-1"
        wrong_scheme = server.refusal(presented(token), SHAPES[0], mine)
        assert wrong_scheme == (CODE.UNAUTHENTICATED, "WRONG_TYPE")
        both = server.token(cnf={"x5t#S256": thumbprint(mine), "jkt": KEY.jkt})
        for shape in SHAPES:
            assert server.call(presented(both, proof(both, shape)), shape, mine) == b"user-1"
            unproven = server.refusal(presented(both), shape, mine)
            assert unproven == (CODE.UNAUTHENTICATED, "PROOF_MISSING")
        stolen = server.refusal(presented(both, proof(both)), SHAPES[0], other)
        assert stolen == (CODE.UNAUTHENTICATED, "WRONG_KEY")

    async with serving(service, kind, DPOP, tls(authority)) as server:
        await asyncio.to_thread(exercise, server)


async def test_certificate_bound_token_is_refused_without_client_certificates(
    service: FakeTokenService, kind: str
) -> None:
    authority = Authority()
    mine = authority.caller(dns_name="mine")

    def exercise(server: Server) -> None:
        server.roots = authority.certificate
        token = server.token(cnf={"x5t#S256": thumbprint(mine)})
        for shape in SHAPES:
            refusal = server.refusal(presented(token, scheme="Bearer"), shape, mine)
            assert refusal == (CODE.UNAUTHENTICATED, "PROOF_MISSING")

    async with serving(service, kind, AuthRules(), tls(authority, client_certificates=False)) as server:
        await asyncio.to_thread(exercise, server)


async def test_proofs_are_checked_after_the_token_service_has_decided(
    service: FakeTokenService, kind: str
) -> None:
    service.refuse_streams = True  # no freshness is proven, so the validator asks the service
    authority = Authority()
    mine, other = authority.caller(dns_name="mine"), authority.caller(dns_name="mine")

    def exercise(server: Server) -> None:
        server.roots = authority.certificate
        for shape in SHAPES:
            certified = server.token(cnf={"x5t#S256": thumbprint(mine)})
            refusal = server.refusal(presented(certified, scheme="Bearer"), shape, other)
            assert refusal == (CODE.UNAUTHENTICATED, "WRONG_KEY")
            certified = server.token(cnf={"x5t#S256": thumbprint(mine)})
            assert server.call(presented(certified, scheme="Bearer"), shape, mine) == b"user-1"
            token = bound(server)
            assert server.refusal(presented(token), shape, mine) == (CODE.UNAUTHENTICATED, "PROOF_MISSING")
            token = bound(server)
            assert server.call(presented(token, proof(token, shape)), shape, mine) == b"user-1"

    async with serving(service, kind, DPOP, tls(authority)) as server:
        await asyncio.to_thread(exercise, server)
        assert service.remote_calls


async def test_call_credentials_prove_the_key_to_the_interceptor(
    service: FakeTokenService, kind: str
) -> None:
    authority, key = Authority(), DpopKey.generate()
    port = free_port()

    def exercise(server: Server) -> None:
        token = server.token(cnf={"jkt": key.jkt})
        tokens = Tokens(
            access_token=token,
            access_expire_time=time.time() + 900,
            refresh_token="refresh-0",
            token_type="DPoP",
        )
        with grpc.insecure_channel(service.address) as channel:
            source = SyncTokenSource(
                TokenServiceStub(channel), client_id="web", store=MemoryTokenStore(tokens), dpop_key=key
            )
            plugin = TokenCallCredentials(source)
            credentials = grpc.composite_channel_credentials(
                grpc.ssl_channel_credentials(authority.certificate), grpc.metadata_call_credentials(plugin)
            )
            with grpc.secure_channel(server.address, credentials) as orders:
                with pytest.raises(grpc.RpcError) as caught:
                    call_of(orders, SHAPES[0])
                assert plugin.take_nonce(caught.value)
                for shape in SHAPES * 2:
                    assert call_of(orders, shape) == b"user-1"
            source.close()

    rules = AuthRules(
        proofs=ProofRules(origins=[f"https://localhost:{port}"], nonce_keys=[Secret(b"k" * 32)])
    )
    credentials = tls(authority, client_certificates=False)
    async with serving(service, kind, rules, credentials, port=port) as server:
        await asyncio.to_thread(exercise, server)


def test_interceptors_believe_no_proxies() -> None:
    with pytest.raises(ConfigurationError, match="trusted_proxies"):
        AuthRules(proofs=ProofRules(origins=[ORIGIN], trusted_proxies=["10.0.0.0/8"]))
