from __future__ import annotations

import base64

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, OKPKey, RSAKey

from tests.support.token_mint import private_key
from token_service.bff import ClientSecretBasic, PrivateKeyJwt
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret


@pytest.mark.filterwarnings("ignore:EdDSA is deprecated")  # its new name is not what providers announce
@pytest.mark.parametrize(
    ("algorithm", "kind"), [("RS256", RSAKey), ("PS256", RSAKey), ("ES256", ECKey), ("EdDSA", OKPKey)]
)
async def test_assertion_is_signed_with_the_algorithm_of_the_key(
    algorithm: str, kind: type[RSAKey | ECKey | OKPKey]
) -> None:
    key = private_key(algorithm)
    client = PrivateKeyJwt("web", key, "key-1", Algorithm.PS256 if algorithm == "PS256" else None)
    proofs = [await client.prove("https://id.test", 1_800_000_000.5) for _ in range(2)]
    assert {proof.headers.get("Authorization") for proof in proofs} == {None}
    public = kind.import_key(key.public_key())  # type: ignore[arg-type]
    tokens = [jwt.decode(proof.form["client_assertion"], public, algorithms=[algorithm]) for proof in proofs]
    assert tokens[0].header == {"alg": algorithm, "kid": "key-1", "typ": "JWT"}
    ids = [token.claims.pop("jti") for token in tokens]
    assert ids[0] != ids[1]
    assert tokens[0].claims == {
        "iss": "web", "sub": "web", "aud": "https://id.test", "iat": 1_800_000_000, "exp": 1_800_000_060,
    }  # fmt: skip


async def test_basic_credentials_are_urlencoded() -> None:
    proof = await ClientSecretBasic("a b:c", Secret("ü%&".encode())).prove("https://id.test", 0)
    scheme, _, text = proof.headers["Authorization"].partition(" ")
    assert (scheme, base64.b64decode(text)) == ("Basic", b"a+b%3Ac:%C3%BC%25%26")
    assert proof.form == {}
    assert "Basic" not in repr(proof)
