"""The providers of private keys: this process, or a hardware security module.

A key never moves to another provider.
"""

from __future__ import annotations

from token_service.core.keys.making import NewKey
from token_service.core.keys.signer import Signer
from token_service.core.keys.store import StoredSigningKey
from token_service.errors import ConfigurationError, SigningUnavailableError
from token_service.signers.hsm.pkcs11 import PROVIDER, Pkcs11Keys
from token_service.signers.local import LocalKeys
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret


class SigningProviders:
    """The providers of a node. New keys are made in the module if one is configured; each key is opened by its provider."""

    def __init__(self, local: LocalKeys, module: Pkcs11Keys | None) -> None:
        self._local = local
        self._module = module

    async def generate(self, algorithm: Algorithm, rsa_bits: int | None) -> NewKey:
        """Generate a key pair. Implements `GenerateKey`."""
        return await (self._module or self._local).generate(algorithm, rsa_bits)

    async def destroy(self, key_id: str, provider: str) -> None:
        """Delete a private key from the module. A key of this process needs no deletion.

        Implements `DestroyKey`. Raises `SigningUnavailableError`.
        """
        if provider != PROVIDER:
            return
        if self._module is None:
            raise SigningUnavailableError("the key is in an HSM, but no HSM is configured")
        await self._module.delete(key_id)

    def open_signer(self, key: StoredSigningKey, private_key: Secret | None) -> Signer:
        """Return a signer for a key. Implements `OpenSigner`. Raises `ConfigurationError`."""
        if key.provider != PROVIDER:
            return self._local.open_signer(key, private_key)
        if self._module is None:
            raise ConfigurationError(
                f"signing key {key.key_id} is in an HSM, but none is configured; set TOKEN_SERVICE_PKCS11_MODULE"
            )
        return self._module.open_signer(key.key_id, key.algorithm)
