"""Public keys of the kinds that sign tokens, as other software reads them."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.hazmat.primitives.serialization import load_der_public_key


def load_public_key(der: bytes) -> RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey:
    """Load a public key of a kind that signs tokens."""
    key = load_der_public_key(der)
    assert isinstance(key, RSAPublicKey | EllipticCurvePublicKey | Ed25519PublicKey)
    return key
