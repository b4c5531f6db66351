"""The tokens of `tests/vectors/hostile_tokens.json`, built from their descriptions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.support.token_mint import ES256, Mint, PrivateKey, b64, sign

_FILE = json.loads(
    (Path(__file__).parents[1] / "vectors" / "hostile_tokens.json").read_text(encoding="utf-8")
)
NOW: int = _FILE["now"]
VECTORS: list[dict[str, Any]] = _FILE["vectors"]


def token_of(vector: dict[str, Any], mint: Mint, other_key: PrivateKey | None = None) -> str:
    """Build the token. `other_key` signs the tokens of "other-key"; None: a key of this test run."""
    assert isinstance(mint.key, ec.EllipticCurvePrivateKey)
    header = {"alg": "ES256", "typ": "at+jwt", "kid": mint.jwk["kid"], **vector.get("header", {})}
    for name in vector.get("header_without", ()):
        del header[name]
    header_text = vector.get("header_text", json.dumps(header)).replace("$KID", mint.jwk["kid"])
    claims = mint.claims(NOW, **vector.get("claims", {}))
    for name in vector.get("claims_without", ()):
        del claims[name]
    payload_text = vector.get("payload_text", json.dumps(claims))
    payload = payload_text.encode(vector.get("payload_encoding", "utf-8"))
    if "payload_hex" in vector:
        payload = bytes.fromhex(vector["payload_hex"])
    h, p = b64(header_text.encode()), b64(payload)
    signing_input = f"{h}.{p}".encode()
    public = mint.key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    good = sign(mint.key, signing_input)
    signature = {
        "key": good,
        "other-key": sign(other_key or Mint("ES256", "other").key, signing_input),
        "public-key-as-secret": sign(public, signing_input),
        "zeros": bytes(64),
        "short": b"\0",
        "long": good + b"\0",
        "der": mint.key.sign(signing_input, ES256),
    }[vector.get("sign", "key")]
    form: str = vector.get("token", "{h}.{p}.{s}")
    return form.format(h=h, p=p, s=b64(signature))
