"""Signing keys in the memory of this process (RFC 7515; RFC 7518, section 3; RFC 8037)."""

from __future__ import annotations

import asyncio
import hmac
import os
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Final, Self

from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from token_service.core.keys.making import NewKey
from token_service.core.keys.store import StoredSigningKey
from token_service.errors import ConfigurationError
from token_service.signers.private_key import (
    DEFAULT_RSA_BITS,
    PrivateKey,
    generate_private_key,
    key_algorithm,
    key_id_of,
    load_private_key,
    private_key_bytes,
    public_key_bytes,
)
from token_service.signers.signing_threads import SigningThreads
from token_service.tokens.algorithms import PS256_PADDING, RSA_ALGORITHMS, Algorithm
from token_service.tokens.secret import Secret

_PKCS1V15: Final = PKCS1v15()
_SHA256: Final = SHA256()
_ECDSA_SHA256: Final = ECDSA(_SHA256)


class LocalSigner:
    """A signer with one private key. Implements `Signer`.

    An RSA signature takes about 0.3 ms, so a thread makes it while the event loop continues. Other signatures take less
    time than the handover to a thread.
    """

    def __init__(
        self, key: PrivateKey, threads: SigningThreads | None = None, *, made_for: Algorithm | None = None
    ) -> None:
        """Create a signer. `threads` make the RSA signatures; None makes them in the calling thread.

        See `algorithm_of` for `made_for` and the errors.
        """
        self.algorithm: Algorithm = key_algorithm(key, made_for)
        self.key_id: str = key_id_of(key)
        self._threads = threads if self.algorithm in RSA_ALGORITHMS else None
        self._sign = _signing_function(key, self.algorithm)

    async def sign(self, signing_input: bytes) -> bytes:
        """Return the JWS signature. Raises `SigningUnavailableError` after the threads have ended."""
        if self._threads is not None:
            return await self._threads.sign(self._sign, signing_input)
        return self._sign(signing_input)

    def __repr__(self) -> str:
        return f"<LocalSigner {self.algorithm} {self.key_id}>"


class LocalKeys:
    """The maker and opener of private keys in this process, with its own threads for RSA signatures.

    It is an async context manager; `close` ends it too.
    """

    def __init__(self, threads: int | None = None, *, rsa_bits: int = DEFAULT_RSA_BITS) -> None:
        """Create the keys with `threads` concurrent RSA signatures; None means one per processor.

        `rsa_bits` is the default size of RSA keys.
        """
        self._rsa_bits = rsa_bits
        self._threads = SigningThreads(threads or os.cpu_count() or 1)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the threads after the queued signatures."""
        self._threads.close()

    async def generate(self, algorithm: Algorithm, rsa_bits: int | None = None) -> NewKey:
        """Generate a key pair. Implements `GenerateKey`."""
        make = partial(generate_private_key, algorithm, rsa_bits=rsa_bits or self._rsa_bits)
        key = await asyncio.to_thread(make)
        return NewKey(key_id_of(key), public_key_bytes(key), private_key_bytes(key))

    def open_signer(self, key: StoredSigningKey, private_key: Secret | None) -> LocalSigner:
        """Return a signer for a key from `generate`.

        Implements `OpenSigner`. Raises `ConfigurationError` if `private_key` is missing, unusable or of another key.
        """
        if private_key is None:
            raise ConfigurationError(f"the private key of signing key {key.key_id} is missing")
        try:
            private = load_private_key(key.algorithm, private_key)
        except ValueError as error:
            raise ConfigurationError(
                f"the private key of signing key {key.key_id} is unusable: {error}"
            ) from None
        signer = LocalSigner(private, self._threads, made_for=key.algorithm)
        if signer.key_id != key.key_id:
            raise ConfigurationError(
                f"the private key stored for signing key {key.key_id} belongs to {signer.key_id}"
            )
        return signer


def _signing_function(key: PrivateKey, algorithm: Algorithm) -> Callable[[bytes], bytes]:
    if isinstance(key, RSAPrivateKey):
        rsa_sign = key.sign
        if algorithm is Algorithm.PS256:
            return lambda data: rsa_sign(data, PS256_PADDING, _SHA256)
        return lambda data: rsa_sign(data, _PKCS1V15, _SHA256)
    if isinstance(key, EllipticCurvePrivateKey):
        ec_sign = key.sign
        return lambda data: _raw_signature(ec_sign(data, _ECDSA_SHA256))
    if isinstance(key, Secret):
        return lambda data: hmac.digest(key.reveal(), data, "sha256")
    return key.sign


def _raw_signature(der: bytes) -> bytes:
    """Return r and s, 32 bytes each (RFC 7518, section 3.4)."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(32) + s.to_bytes(32)
