"""A check that the npm package jose accepts the key sets and tokens. Run by scripts/jose, because it needs node and npm.

One service uses three algorithms in turn. Each change leaves the older keys in the set, and tokens of all algorithms
are verified against it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import httpx
from cryptography import x509

from tests.integration.calls import ACCESS, ID, Api
from tests.integration.keys.authorities import Authority
from tests.integration.keys.operator import Operator
from tests.integration.nodes import Node
from tests.support.deadline import eventually

PACKAGE = "jose@6.2.0"
_CHECK = """
import { createRemoteJWKSet, importJWK, jwtVerify } from 'jose'
const [url, issuer, ...tokens] = process.argv.slice(2)
const { keys } = await (await fetch(url)).json()
for (const key of keys) await importJWK(key)
const set = createRemoteJWKSet(new URL(url))
const verified = []
for (const token of tokens) {
  const { payload, protectedHeader } = await jwtVerify(token, set, { issuer, algorithms: ['RS256', 'ES256', 'EdDSA'] })
  verified.push([protectedHeader.alg, protectedHeader.typ, payload.sub])
  const forged = token.slice(0, -8) + 'AAAAAAAA'
  const refused = await jwtVerify(forged, set).then(() => false, () => true)
  if (!refused) throw new Error('a forged token was accepted')
}
console.log(JSON.stringify({ keys: keys.map((key) => [key.kty, key.alg, (key.x5c ?? []).length]), verified }))
"""


def run(*command: str, directory: Path) -> str:
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command[:3])} failed:\n{done.stdout}{done.stderr}")
    return done.stdout


async def tokens_of_every_algorithm(node: Node) -> list[str]:
    tokens: list[str] = []
    for algorithm in ("RS256", "ES256", "EdDSA"):
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
    await eventually(lambda: _certified(node) == {"RS256", "ES256", "EdDSA"})
    return tokens


def _certified(node: Node) -> set[str]:
    answer = httpx.get(f"{node.http_url}/.well-known/jwks.json", timeout=30, trust_env=False)
    return {key["alg"] for key in answer.json()["keys"] if "x5c" in key}


def main() -> None:
    """Install the library into a temporary directory and let it verify."""
    env = {"TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "0s", "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms"}
    with tempfile.TemporaryDirectory(prefix="token-service-jose-") as name, Node(env=env) as node:
        directory = Path(name)
        run("npm", "install", "--no-audit", "--no-fund", "--silent", PACKAGE, directory=directory)
        (directory / "check.mjs").write_text(_CHECK)
        tokens = asyncio.run(tokens_of_every_algorithm(node))
        url = f"{node.http_url}/.well-known/jwks.json"
        said = json.loads(
            run("node", "check.mjs", url, "http://127.0.0.1:8080", *tokens, directory=directory)
        )
    expected = [
        [algorithm, kind, "alice"] for algorithm in ("RS256", "ES256", "EdDSA") for kind in ("at+jwt", "JWT")
    ]
    if said["verified"] != expected:
        sys.exit(f"{PACKAGE} verified {said['verified']}")
    print(
        f"{PACKAGE} verifies tokens of RS256, ES256 and EdDSA against one key set of {len(said['keys'])} keys:"
    )
    for kty, alg, certificates in said["keys"]:
        print(f"  {kty:<3} {alg:<5} {certificates} certificates")


if __name__ == "__main__":
    main()
