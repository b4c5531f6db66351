"""A chain of three certificates from an offline root to the key set, checked by independent programs."""

from __future__ import annotations

import subprocess
from base64 import b64decode
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from joserfc import jwt
from joserfc.jwk import KeySet

from tests.integration.calls import ACCESS, Api
from tests.integration.keys.authorities import Authority
from tests.integration.keys.conftest import StartService
from tests.support.deadline import eventually

# RFC 9864 deprecates the name of the algorithm, and few libraries know its new names yet.
pytestmark = pytest.mark.filterwarnings("ignore:EdDSA is deprecated")


def pem(x5c: Sequence[str]) -> str:
    return "".join(
        x509.load_der_x509_certificate(b64decode(each)).public_bytes(Encoding.PEM).decode() for each in x5c
    )


def openssl_verifies(directory: Path, chain: Sequence[str], root: str) -> str:
    """Return the output of `openssl verify` for a chain without its root, given only the root."""
    for name, content in {"root": root, "own": pem(chain[:1]), "between": pem(chain[1:])}.items():
        (directory / f"{name}.pem").write_text(content)
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-CAfile", "root.pem", "-untrusted", "between.pem", "own.pem"],
        cwd=directory, capture_output=True, text=True, timeout=30, check=False,
    )  # fmt: skip
    return done.stdout.strip() if done.returncode == 0 else done.stderr


def key_set(url: str) -> dict[str, dict[str, Any]]:
    document = httpx.get(f"{url}/.well-known/jwks.json", timeout=30, trust_env=False).json()
    return {key["kid"]: key for key in document["keys"]}


async def test_a_chain_of_three_is_published_and_verifies(
    start_service: StartService, tmp_path: Path
) -> None:
    node, operator = start_service()
    root = Authority("Offline Root")
    intermediate = Authority("Online Intermediate", root)
    # The signing key and other keys, which get their certificates before they sign.
    kids = [await operator.only("active")]
    kids += [
        await operator.run("prepare", "--algorithm", algorithm, "--format", "id")
        for algorithm in ("RS256", "EdDSA", "ES256")
    ]
    for key_id in kids:
        request = await operator.run("csr", key_id, "--subject", f"CN={key_id},O=Example")
        chain = intermediate.certify(x509.load_pem_x509_csr(request.encode()))
        await operator.run("import-certificate", key_id, "-", stdin=chain)
    await eventually(
        lambda: set(kids) <= {kid for kid, key in key_set(node.http_url).items() if "x5c" in key}
    )

    keys = {kid: key for kid, key in key_set(node.http_url).items() if kid in kids}
    for key_id, key in keys.items():
        assert len(key["x5c"]) == 3
        assert openssl_verifies(tmp_path, key["x5c"][:2], root.pem) == "own.pem: OK"
        assert "own.pem: OK" not in openssl_verifies(tmp_path, key["x5c"][:2], Authority("Another").pem)
        assert x509.load_der_x509_certificate(b64decode(key["x5c"][0])).subject.rfc4514_string() == (
            f"CN={key_id},O=Example"
        )
    # Libraries that compare certificate and key accept it, and tokens verify.
    async with Api(node.grpc_address) as api:
        token = (await api.issue(token_types=[ACCESS])).access_token
    imported = KeySet.import_key_set({"keys": list(keys.values())})
    assert jwt.decode(token, imported, algorithms=["ES256"]).claims["sub"] == "alice"


async def test_a_chain_without_its_root_can_be_renewed(start_service: StartService, tmp_path: Path) -> None:
    """Many operators publish no root, because callers who trust it have it; certificates are renewed while keys live."""
    node, operator = start_service()
    key_id = await operator.only("active")
    request = x509.load_pem_x509_csr((await operator.run("csr", key_id, "--subject", "CN=tokens")).encode())
    root = Authority("Offline Root")
    without_root = ""
    for name in ("First", "Second"):
        chain = Authority(name, root).certify(request)
        without_root = "".join(chain.partition(root.pem)[:1])
        await operator.run("import-certificate", key_id, "-", stdin=without_root)
        await eventually(partial(_is_issued_by, name, node.http_url, key_id))
        published = key_set(node.http_url)[key_id]["x5c"]
        assert len(published) == 2
        assert openssl_verifies(tmp_path, published, root.pem) == "own.pem: OK"
    # A chain in the wrong order is refused.
    reversed_chain = root.pem + without_root
    assert "must come first; it is number 2" in await operator.refused(
        "import-certificate", key_id, "-", stdin=reversed_chain
    )
    assert len(key_set(node.http_url)[key_id]["x5c"]) == 2


def _is_issued_by(name: str, url: str, key_id: str) -> bool:
    own = key_set(url)[key_id].get("x5c", [""])[0]
    if not own:
        return False
    return x509.load_der_x509_certificate(b64decode(own)).issuer.rfc4514_string() == f"CN={name}"
