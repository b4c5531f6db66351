"""The keys that verify one issuer's tokens: an immutable set, swapped whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from token_service.tokens.algorithms import Algorithm, VerificationKeyMaterial, Verify, verifier_for
from token_service.tokens.jwk import UnusableKeyError, parse_public_jwk


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """A key that verifies with exactly one algorithm."""

    key_id: str
    algorithm: Algorithm
    verify: Verify

    @classmethod
    def of(cls, key_id: str, algorithm: Algorithm, material: VerificationKeyMaterial) -> VerificationKey:
        """The verification key for key material."""
        return cls(key_id, algorithm, verifier_for(material))


class KeySet:
    """The keys of one issuer, by `kid`, and the revision of the set."""

    __slots__ = ("_keys", "revision")

    def __init__(self, keys: Iterable[VerificationKey], revision: int = 0) -> None:
        self._keys: Mapping[str, VerificationKey] = {key.key_id: key for key in keys}
        self.revision = revision

    @classmethod
    def from_jwks(cls, jwks: Iterable[Mapping[str, Any]], revision: int = 0) -> KeySet:
        """The usable keys among `jwks`. A key that must not verify is left out (RFC 7517, section 5).

        Of two keys with one `kid` neither is usable: which of them signed can't be told.
        """
        keys: dict[str, VerificationKey] = {}
        ambiguous: set[str] = set()
        for jwk in jwks:
            try:
                kid, algorithm, material = parse_public_jwk(jwk)
            except UnusableKeyError:
                continue
            if kid in keys:
                ambiguous.add(kid)
            keys[kid] = VerificationKey.of(kid, algorithm, material)
        return cls((key for kid, key in keys.items() if kid not in ambiguous), revision)

    def get(self, key_id: str) -> VerificationKey | None:
        """The key with this `kid`, if it is in the set."""
        return self._keys.get(key_id)

    def __iter__(self) -> Iterator[VerificationKey]:
        return iter(self._keys.values())

    def __len__(self) -> int:
        return len(self._keys)
