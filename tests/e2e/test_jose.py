"""The npm package jose verifies the tokens of every kind and algorithm against the key set."""

from __future__ import annotations

import asyncio

import httpx
from cryptography import x509

from tests.integration.calls import ACCESS, ID, Api
from tests.integration.keys.authorities import Authority
from tests.integration.keys.operator import Operator
from tests.integration.oauth.node import OAuthNode
from tests.support import node as nodejs
from tests.support.deadline import eventually

ALGORITHMS = ("RS256", "PS256", "ES256", "EdDSA")


async def tokens_of_every_algorithm(node: OAuthNode) -> list[str]:
    """Change the algorithm of a node twice, certify each key, and return an access and an ID token of each."""
    tokens: list[str] = []
    for algorithm in ALGORITHMS:
        node._settings["TOKEN_SERVICE_SIGNING_ALGORITHM"] = algorithm
        await asyncio.to_thread(node.restart if node.running else node.start)
        operator = Operator({**node._settings, "TOKEN_SERVICE_DATA_DIR": str(node.data_dir)})

        async def is_active(operator: Operator = operator, algorithm: str = algorithm) -> bool:
            return [key["algorithm"] for key in await operator.keys("active")] == [algorithm]

        await eventually(is_active)
        key_id = await operator.only("active")
        request = await operator.run("csr", key_id, "--subject", "CN=tokens")
        chain = Authority("Root").certify(x509.load_pem_x509_csr(request.encode()))
        await operator.run("import-certificate", key_id, "-", stdin=chain)
        async with Api(node.grpc_address) as api:
            issued = await api.issue(token_types=[ACCESS, ID], nonce="n")
        tokens += [issued.access_token, issued.id_token]
    await eventually(lambda: certified(node) == set(ALGORITHMS))
    return tokens


def certified(node: OAuthNode) -> set[str]:
    answer = httpx.get(f"{node.http_url}/.well-known/jwks.json", timeout=30, trust_env=False)
    return {key["alg"] for key in answer.json()["keys"] if "x5c" in key}


def test_tokens_of_every_algorithm_verify_against_one_key_set_with_certificates() -> None:
    env = {"TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "0s", "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms"}
    with OAuthNode(env=env) as node:
        tokens = asyncio.run(tokens_of_every_algorithm(node))
        said = nodejs.run(
            "jose.mjs",
            {"jwks_uri": f"{node.http_url}/.well-known/jwks.json", "issuer": node.issuer, "tokens": tokens},
        )
    found = [
        (item["header"]["alg"], item["header"]["typ"], item["claims"]["sub"]) for item in said["verified"]
    ]
    assert found == [(alg, typ, "alice") for alg in ALGORITHMS for typ in ("at+jwt", "JWT")]
    assert {key["alg"] for key in said["keys"]} == set(ALGORITHMS)
