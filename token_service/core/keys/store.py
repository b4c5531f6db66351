"""The key store: the port for encrypted keys, and its rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from token_service.core.events.event import AuditEvent
from token_service.tokens.algorithms import Algorithm


class SigningKeyState(Enum):
    """The lifecycle state of a signing key."""

    PREPARED = "prepared"
    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSigningKey:
    """A signing key at rest."""

    key_id: str
    algorithm: Algorithm
    state: SigningKeyState
    public_key: bytes
    """DER SubjectPublicKeyInfo; empty for HS256."""
    private_key: bytes
    """Wrapped private key (AES-256-GCM); opaque to the store. Empty if it lives in an HSM."""
    wrapping_key_id: str
    """The key-encryption key that wrapped the private key. Empty if it lives in an HSM."""
    provider: str = "local"
    """The provider that signs with the private key: `local` or `pkcs11`."""
    certificates: tuple[bytes, ...] = ()
    """Certificate chain in DER, the key's own certificate first (RFC 7517, section 4.7). Empty: none."""
    create_time: float
    activate_time: float | None = None
    retire_time: float | None = None
    revoke_time: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredMacKey:
    """A stored MAC key for opaque tokens. The second highest version is in use, the highest is a spare."""

    version: int
    wrapped: bytes
    wrapping_key_id: str
    create_time: float


@dataclass(frozen=True, slots=True)
class StoredKeys:
    """All keys at one revision."""

    revision: int
    signing_keys: Sequence[StoredSigningKey]
    mac_keys: Sequence[StoredMacKey]


class KeyStore(Protocol):
    """Keys shared by all nodes.

    Every change is a compare-and-set on the revision, so of two concurrent changes one fails.
    """

    async def load(self) -> StoredKeys:
        """Return all keys, with the revision of the same snapshot.

        Raises `ConfigurationError` if the token service did not write a row.
        """
        ...

    async def save(
        self,
        expected_revision: int,
        signing_keys: Sequence[StoredSigningKey],
        mac_keys: Sequence[StoredMacKey],
        *,
        deleted_key_ids: Sequence[str] = (),
        events: Sequence[AuditEvent] = (),
    ) -> bool:
        """Insert, update and delete keys in one transaction, raise the revision by one, and write the audit events.

        Changes nothing and returns False if the revision is not `expected_revision`.
        """
        ...
