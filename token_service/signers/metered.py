"""Signers whose signatures are measured."""

from __future__ import annotations

from time import perf_counter

from token_service.core.keys.making import NewKey
from token_service.core.keys.signer import Signer
from token_service.core.keys.store import StoredSigningKey
from token_service.errors import SigningUnavailableError
from token_service.signers.providers import SigningProviders
from token_service.telemetry import Histogram
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.secret import Secret


class MeteredProviders:
    """The providers of a node, with signers that record the duration of each signature."""

    def __init__(self, providers: SigningProviders, duration: Histogram) -> None:
        self._providers = providers
        self._duration = duration

    async def generate(self, algorithm: Algorithm, rsa_bits: int | None) -> NewKey:
        """See `SigningProviders.generate`."""
        return await self._providers.generate(algorithm, rsa_bits)

    async def destroy(self, key_id: str, provider: str) -> None:
        """See `SigningProviders.destroy`."""
        await self._providers.destroy(key_id, provider)

    def open_signer(self, key: StoredSigningKey, private_key: Secret | None) -> Signer:
        """See `SigningProviders.open_signer`."""
        return _MeteredSigner(self._providers.open_signer(key, private_key), key.provider, self._duration)


class _MeteredSigner:
    def __init__(self, signer: Signer, provider: str, duration: Histogram) -> None:
        self._signer = signer
        self._provider = provider
        self._duration = duration
        self.key_id = signer.key_id
        self.algorithm = signer.algorithm

    async def sign(self, signing_input: bytes) -> bytes:
        """See `Signer.sign`."""
        began = perf_counter()
        outcome = "ok"
        try:
            return await self._signer.sign(signing_input)
        except SigningUnavailableError:
            outcome = "failed"
            raise
        finally:
            self._duration.record(perf_counter() - began, self.algorithm.value, self._provider, outcome)
