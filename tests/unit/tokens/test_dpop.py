"""DPoP proofs (RFC 9449, section 4.3): each rule that a proof can break."""

from __future__ import annotations

import base64
import json
from itertools import count
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicNumbers

from tests.unit.tokens.dpop_proofs import NOW, TOKEN, URI, ProofMaker, b64
from token_service.errors import InvalidReason, InvalidTokenError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.dpop import DpopProof, verify_proof
from token_service.tokens.http_uri import normalized
from token_service.tokens.weak_rsa import weakness_of

ES256 = ProofMaker()
EDDSA = ProofMaker("EdDSA")


def verify(proof: str, *, method: str = "GET", uri: str = URI, token: str | None = TOKEN) -> DpopProof:
    return verify_proof(proof, method=method, uri=uri, access_token=token)


def test_proof_of_section_4_1_of_the_rfc_is_accepted() -> None:
    proof = (
        "eyJ0eXAiOiJkcG9wK2p3dCIsImFsZyI6IkVTMjU2IiwiandrIjp7Imt0eSI6IkVDIiwieCI6Imw4dEZyaHgtMzR0VjNoUklDUkRZOXpDa0RscEJo"
        "RjQyVVFVZldWQVdCRnMiLCJ5IjoiOVZFNGpmX09rX282NHpiVFRsY3VOSmFqSG10NnY5VERWclUwQ2R2R1JEQSIsImNydiI6IlAtMjU2In19.eyJq"
        "dGkiOiItQndDM0VTYzZhY2MybFRjIiwiaHRtIjoiUE9TVCIsImh0dSI6Imh0dHBzOi8vc2VydmVyLmV4YW1wbGUuY29tL3Rva2VuIiwiaWF0Ijox"
        "NTYyMjYyNjE2fQ.2-GxA6T8lP4vfrg8v-FdWP0A0zdrj8igiMLvqRMUvwnQg4PtFLbdLXiOSsX0x7NVY-FNyJK70nfbV37xRZT3Lg"
    )
    found = verify_proof(proof, method="POST", uri="https://server.example.com/token", access_token=None)
    assert found == DpopProof(
        "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I",
        "-BwC3ESc6acc2lTc",
        1562262616.0,
        None,
        is_of_token=False,
    )


@pytest.mark.parametrize("maker", [ES256, EDDSA], ids=["ES256", "EdDSA"])
def test_proof_names_its_key_and_its_nonce(maker: ProofMaker) -> None:
    found = verify(maker.proof(jti="once", nonce="n-1"))
    assert found == DpopProof(maker.jkt, "once", NOW, "n-1", is_of_token=True)


@pytest.mark.parametrize(
    ("proof", "said"),
    [
        (ES256.proof(method="POST"), "htm"),
        (ES256.proof(method="get"), "htm"),
        (ES256.proof(uri="https://api.example/other"), "htu"),
        (ES256.proof(uri="http://api.example/orders"), "htu"),
        (ES256.proof(htu=5), "htu"),
        (ES256.proof(token="another"), "ath"),
        (ES256.proof(token=None), "ath"),
        (ES256.proof(ath="é"), "ath"),
        (ES256.proof(jti=...), "jti"),
        (ES256.proof(jti=""), "jti"),
        (ES256.proof(jti="x" * 257), "jti"),
        (ES256.proof(iat=...), "iat"),
        (ES256.proof(iat=True), "iat"),
        (ES256.proof(iat=-1), "iat"),
        (ES256.proof(iat="now"), "iat"),
        (ES256.proof(nonce=7), "nonce"),
        (ES256.proof(header={"typ": "JWT"}), "typ"),
        (ES256.proof(header={"typ": ...}), "typ"),
        (ES256.proof(header={"jwk": ...}), "jwk"),
        (ES256.proof(header={"jwk": "key"}), "jwk"),
        (ES256.proof(header={"jwk": EDDSA.jwk}), "jwk"),
        (ES256.proof(header={"jwk": {**ES256.jwk, "d": "AA"}}), "private"),
        (ES256.proof(header={"jwk": {**ES256.jwk, "alg": "RS256"}}), "alg"),
        (ES256.proof(header={"jwk": {**ES256.jwk, "crv": "P-384"}}), "jwk"),
        (ES256.proof(header={"jwk": {"kty": "oct", "k": "AAAA"}}), "jwk"),
        (ES256.proof(header={"jwk": ProofMaker().jwk}), "signature"),
        (ES256.proof(header={"crit": ["b64"], "b64": True}), "members other"),
        (ES256.proof(header={"kid": "x"}), "members other"),
        (ES256.proof()[:-4] + "AAAA", "signature"),
        (ES256.proof() + ".x", "compact"),
        ("", "compact"),
        ("é.é.é", "compact"),
        ("a." * 5000, "longer"),
    ],
)
def test_proof_that_breaks_a_rule_is_refused(proof: str, said: str) -> None:
    with pytest.raises(InvalidTokenError, match=said) as refused:
        verify(proof)
    assert refused.value.reason is InvalidReason.PROOF_INVALID


@pytest.mark.parametrize("alg", ["none", "HS256", "HS512", "es256", 5, None])
def test_algorithm_that_is_not_asymmetric_is_refused(alg: Any) -> None:
    header, payload, signature = ES256.proof().split(".")
    members = json.loads(base64.urlsafe_b64decode(header + "=="))
    forged = base64.urlsafe_b64encode(json.dumps({**members, "alg": alg}).encode()).rstrip(b"=").decode()
    with pytest.raises(InvalidTokenError, match="alg"):
        verify(f"{forged}.{payload}.{signature}")


def test_rsa_key_that_is_slow_to_verify_is_refused_before_the_signature() -> None:
    # A stranger needs no private key to let a recipient work.
    modulus = next(n for n in count(2**8191 + 1, 2) if weakness_of(RSAPublicNumbers(65537, n)) is None)
    jwk = {"kty": "RSA", "n": b64(modulus.to_bytes(1024)), "e": "AQAB"}
    header = json.dumps({"typ": "dpop+jwt", "alg": "PS256", "jwk": jwk}).encode()
    with pytest.raises(InvalidTokenError, match="at most 4096 bits"):
        verify(f"{b64(header)}.e30.{b64(bytes(1024))}")


def test_algorithms_can_be_limited() -> None:
    with pytest.raises(InvalidTokenError, match="alg is none of PS256"):
        verify_proof(ES256.proof(), method="GET", uri=URI, access_token=TOKEN, algorithms=(Algorithm.PS256,))


@pytest.mark.parametrize(
    ("claimed", "uri"),
    [
        ("https://api.example/orders", "https://api.example/orders?page=2#top"),
        ("https://API.example:443/orders", "https://api.example/orders"),
        ("HTTPS://api.example/%6frders", "https://api.example/orders"),
        ("https://api.example/a/../orders", "https://api.example/orders"),
        ("https://api.example", "https://api.example/"),
        ("https://[::1]:8443/x", "https://[::1]:8443/x"),
        ("https://api.example/a%2Fb", "https://api.example/a%2fb"),
    ],
)
def test_uris_are_compared_after_normalization(claimed: str, uri: str) -> None:
    assert verify(ES256.proof(uri=claimed), uri=uri).jkt == ES256.jkt


@pytest.mark.parametrize(
    ("claimed", "uri"),
    [
        ("https://api.example/a%2Fb", "https://api.example/a/b"),
        ("https://api.example:8443/orders", "https://api.example/orders"),
        ("https://api.example/orders/", "https://api.example/orders"),
        ("https://user@api.example/orders", "https://api.example/orders"),
        ("https://api.example/Orders", "https://api.example/orders"),
        ("ftp://api.example/orders", "https://api.example/orders"),
        ("https://api.example:99999/orders", "https://api.example/orders"),
        ("/orders", "https://api.example/orders"),
    ],
)
def test_uris_that_differ_are_refused(claimed: str, uri: str) -> None:
    with pytest.raises(InvalidTokenError, match="htu"):
        verify(ES256.proof(uri=claimed), uri=uri)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/a/b/./c", "/a/b/c"),
        ("/a/b/..", "/a/"),
        ("/../a", "/a"),
        ("/.hidden", "/.hidden"),
        ("/a//b", "/a//b"),
    ],
)
def test_dot_segments_are_removed(path: str, expected: str) -> None:
    assert normalized(f"https://api.example{path}") == f"https://api.example{expected}"
