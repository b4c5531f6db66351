"""The keys that verify the tokens of one issuer: an immutable set, replaced as a whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey, RSAPublicNumbers

from token_service.tokens.algorithms import Algorithm, VerificationKeyMaterial, Verify, verifier_for_any
from token_service.tokens.jwk import UnusableKeyError, WeakKeyError, parse_public_jwk

MAX_KEYS_OF_ONE_NAME: Final = 4
"""Keys with the same `kid` and algorithm that are tried for one signature.

The limit bounds the cost of a token that none of them verifies.
"""
_MAX_SHOWN: Final = 80
_NO_KEYS: Final[Mapping[str, VerificationKey]] = {}


@dataclass(frozen=True, slots=True)
class VerificationKey:
    """The verification of one algorithm under one `kid`: by one key, or by several keys that share the `kid`."""

    key_id: str
    algorithm: Algorithm
    verify: Verify

    @classmethod
    def of(cls, key_id: str, algorithm: Algorithm, *materials: VerificationKeyMaterial) -> VerificationKey:
        """Return the verification key of key material."""
        return cls(key_id, algorithm, verifier_for_any(materials, algorithm))


@dataclass(frozen=True, slots=True)
class RefusedKey:
    """A JWK left out of a key set."""

    key_id: str
    """The `repr` of the `kid`, shortened, because the `kid` may be any value."""
    why: str
    weak: bool
    """Whether the key is meant to verify tokens but is too weak."""


class KeySet:
    """The keys of one issuer, by `kid` and algorithm, and the revision of the set."""

    __slots__ = ("_keys", "refused", "revision")

    def __init__(
        self, keys: Iterable[VerificationKey], revision: int = 0, refused: tuple[RefusedKey, ...] = ()
    ) -> None:
        self._keys: dict[str, dict[str, VerificationKey]] = {}
        for key in keys:
            self._keys.setdefault(key.key_id, {})[key.algorithm] = key
        self.revision = revision
        self.refused = refused

    @classmethod
    def from_jwks(cls, jwks: Iterable[Mapping[str, Any]], revision: int = 0) -> KeySet:
        """Return the set of usable keys of `jwks`. A key that must not verify is left out (RFC 7517, section 5).

        Keys of different types may share a `kid` (RFC 7517, section 4.5): the `alg` of the token chooses the key. If
        several keys of one type share a `kid`, a signature is valid if any of them made it, because all are keys of
        this issuer. At most `MAX_KEYS_OF_ONE_NAME` such keys are kept. A key listed twice counts once. An RSA key that
        is listed for two algorithms counts only for the first (RFC 8725, section 3.1).
        """
        rsa_algorithms: dict[RSAPublicNumbers, Algorithm] = {}
        materials: dict[tuple[str, Algorithm], list[VerificationKeyMaterial]] = {}
        refused: list[RefusedKey] = []
        for jwk in jwks:
            try:
                kid, algorithm, material = parse_public_jwk(jwk)
                if isinstance(material, RSAPublicKey):
                    first = rsa_algorithms.setdefault(material.public_numbers(), algorithm)
                    if first is not algorithm:
                        raise UnusableKeyError(f"is already listed as a key for {first.value}")
                alike = materials.setdefault((kid, algorithm), [])
                if material in alike:
                    continue
                if len(alike) == MAX_KEYS_OF_ONE_NAME:
                    raise UnusableKeyError(
                        f"{MAX_KEYS_OF_ONE_NAME} other {algorithm.value} keys have this kid"
                    )
                alike.append(material)
            except UnusableKeyError as error:
                shown = repr(jwk.get("kid"))[:_MAX_SHOWN]
                refused.append(RefusedKey(shown, str(error), isinstance(error, WeakKeyError)))
        keys = [VerificationKey.of(*name, *alike) for name, alike in materials.items()]
        return cls(keys, revision, tuple(refused))

    def get(self, key_id: str) -> Mapping[str, VerificationKey]:
        """Return the keys with this `kid` by algorithm; empty if the set has none."""
        return self._keys.get(key_id, _NO_KEYS)

    def __iter__(self) -> Iterator[VerificationKey]:
        return (key for keys in self._keys.values() for key in keys.values())

    def __len__(self) -> int:
        return sum(map(len, self._keys.values()))
