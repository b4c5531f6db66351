"""Private keys of DPoP proofs: generation, signing, and the file that keeps one."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from tempfile import mkstemp
from typing import Final, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    SECP256R1,
    EllipticCurvePrivateKey,
    generate_private_key as generate_ec_key,
)
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import (
    RSAPrivateKey,
    generate_private_key as generate_rsa_key,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from token_service.errors import ConfigurationError
from token_service.files import read_regular_with_status
from token_service.tokens.algorithms import PS256_PADDING, RSA_ALGORITHMS, Algorithm, algorithm_of

PrivateKey: TypeAlias = RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey

_RSA_BITS: Final = 2048
_MAX_FILE: Final = 64 * 1024
_ECDSA_SHA256: Final = ECDSA(SHA256())
_PKCS1V15: Final = PKCS1v15()
_SHA256: Final = SHA256()


def generate(algorithm: Algorithm) -> PrivateKey:
    """Generate a key. Raises `ConfigurationError` for an algorithm that can't sign proofs."""
    if algorithm is Algorithm.ES256:
        return generate_ec_key(SECP256R1())
    if algorithm is Algorithm.EDDSA:
        return Ed25519PrivateKey.generate()
    if algorithm in RSA_ALGORITHMS:
        return generate_rsa_key(65537, _RSA_BITS)
    raise ConfigurationError(f"a DPoP key can't be for {algorithm}; choose ES256, EdDSA, PS256 or RS256")


def key_algorithm(key: PrivateKey, wanted: Algorithm) -> Algorithm:
    """Return the algorithm that a key is used with: the one of its type; for an RSA key, PS256 if that is wanted."""
    is_for_pss = isinstance(key, RSAPrivateKey) and wanted is Algorithm.PS256
    return algorithm_of(key.public_key(), Algorithm.PS256 if is_for_pss else None)


def signer_of(key: PrivateKey, algorithm: Algorithm) -> Callable[[bytes], bytes]:
    """Return the function that signs with a key, as RFC 7518 says."""
    if isinstance(key, RSAPrivateKey):
        padding = PS256_PADDING if algorithm is Algorithm.PS256 else _PKCS1V15
        return lambda data: key.sign(data, padding, _SHA256)
    if isinstance(key, Ed25519PrivateKey):
        return key.sign

    def sign(data: bytes) -> bytes:
        r, s = decode_dss_signature(key.sign(data, _ECDSA_SHA256))
        return r.to_bytes(32) + s.to_bytes(32)

    return sign


def read_or_create(path: Path, algorithm: Algorithm) -> PrivateKey:
    """Read the key of a file, or generate one and create the file.

    Raises `ConfigurationError` for a file that can't be read or created, that others may read or write, or that has no usable
    key.
    """
    try:
        try:
            return _read(path)
        except FileNotFoundError:
            _create(path, generate(algorithm))
            return _read(path)
    except OSError as error:
        raise ConfigurationError(f"the DPoP key {path} can't be read or created: {error.strerror}") from None


def _read(path: Path) -> PrivateKey:
    content, status = read_regular_with_status(path, _MAX_FILE)
    # The group may read a file of root: Kubernetes gives secrets in this way to services that do not run as root.
    others = stat.S_IRWXO | stat.S_IWGRP | stat.S_IXGRP | (0 if status.st_uid == 0 else stat.S_IRGRP)
    if stat.S_IMODE(status.st_mode) & others:
        raise ConfigurationError(
            f"the DPoP key {path} may be read or written by other users; run: chmod 600 {path}"
        )
    try:
        key = load_pem_private_key(content, None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        raise ConfigurationError(f"the DPoP key {path} is not an unencrypted private key in PEM") from None
    if not isinstance(key, RSAPrivateKey | EllipticCurvePrivateKey | Ed25519PrivateKey):
        raise ConfigurationError(f"the DPoP key {path} is of an unsupported type; use P-256, Ed25519 or RSA")
    try:
        algorithm_of(key.public_key())
    except ValueError as error:
        raise ConfigurationError(f"the DPoP key {path} can't be used: {error}") from None
    return key


def _create(path: Path, key: PrivateKey) -> None:
    """Create the file, unless another process does.

    The link is atomic: a complete file appears, and of several processes one creates it.
    """
    descriptor, scratch = mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
            file.flush()
            os.fsync(file.fileno())
        try:
            os.link(scratch, path)
        except FileExistsError:
            return
    finally:
        Path(scratch).unlink()
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
