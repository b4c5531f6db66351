"""Values that the contract suites put into the stores."""

from __future__ import annotations

import hashlib
from typing import Any
from uuid import UUID, uuid4

from token_service.core.clients.client import Client, ClientSecret, ClientState
from token_service.core.clients.store import ClientEnd
from token_service.core.keys.store import SigningKeyState, StoredMacKey, StoredSigningKey
from token_service.core.revocation.log import RevocationDraft
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import Amendment, Retry, Rotation, Use
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.revocation import RevocationTarget

NOW = 1_800_000_000.123456


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def a_session(**changes: Any) -> Session:
    """A session with a refresh token, created at NOW: idle after an hour, expired after a day."""
    values: dict[str, Any] = {
        "id": uuid4(),
        "subject": "alice",
        "client_id": "web",
        "refresh_hash": digest("0"),
        "create_time": NOW,
        "rotate_time": NOW,
        "last_use_time": NOW,
        "idle_expire_time": NOW + 3600,
        "absolute_expire_time": NOW + 86400,
    }
    return Session(**{**values, **changes})


def a_rotation(session_id: UUID, generation: int = 0, /, **changes: Any) -> Rotation:
    """The rotation of an `a_session` from one generation to the next."""
    values: dict[str, Any] = {
        "session_id": session_id,
        "client_id": "web",
        "device_id": "",
        "generation": generation,
        "current_hash": digest(str(generation)),
        "next_hash": digest(str(generation + 1)),
        "key_version": 1,
        "now": NOW + 10,
        "idle_expire_time": NOW + 3610,
    }
    return Rotation(**{**values, **changes})


def a_retry(session_id: UUID, generation: int = 0, /, **changes: Any) -> Retry:
    """A retry with the token that `a_rotation` replaced, a second after the rotation."""
    values: dict[str, Any] = {
        "session_id": session_id,
        "client_id": "web",
        "device_id": "",
        "generation": generation,
        "previous_hash": digest(str(generation)),
        "rotated_after": NOW + 1,
        "max_retries": 5,
        "now": NOW + 11,
    }
    return Retry(**{**values, **changes})


def a_use(session_id: UUID, /, **changes: Any) -> Use:
    values: dict[str, Any] = {"session_id": session_id, "now": NOW + 10, "idle_expire_time": NOW + 3610}
    return Use(**{**values, **changes})


def an_amendment(session: Session, /, **changes: Any) -> Amendment:
    """A change of an `a_session`. It changes only the given fields."""
    values: dict[str, Any] = {
        "session_id": session.id,
        "now": NOW + 10,
        "expected_scopes": session.scopes,
        "scopes": session.scopes,
        "custom_claims": None,
    }
    return Amendment(**{**values, **changes})


def a_draft(target: RevocationTarget, value: object = "", **changes: Any) -> RevocationDraft:
    values: dict[str, Any] = {
        "target": target,
        "value": str(value),
        "revoke_time": NOW + 20,
        "expire_time": NOW + 3620,
    }
    return RevocationDraft(**{**values, **changes})


def a_signing_key(key_id: str = "key-1", **changes: Any) -> StoredSigningKey:
    values: dict[str, Any] = {
        "key_id": key_id,
        "algorithm": Algorithm.ES256,
        "state": SigningKeyState.ACTIVE,
        "public_key": b"public",
        "private_key": b"\x00wrapped\xff",
        "wrapping_key_id": "kek-1",
        "provider": "pkcs11",
        "certificates": (b"\x30leaf", b"\x30root"),
        "create_time": NOW,
        "activate_time": NOW + 1.5,
    }
    return StoredSigningKey(**{**values, **changes})


def a_mac_key(version: int = 1, **changes: Any) -> StoredMacKey:
    values: dict[str, Any] = {
        "version": version,
        "wrapped": b"\x00mac\xff",
        "wrapping_key_id": "kek-1",
        "create_time": NOW,
    }
    return StoredMacKey(**{**values, **changes})


def a_client(client_id: str = "web", **changes: Any) -> Client:
    values: dict[str, Any] = {"client_id": client_id, "create_time": NOW, "update_time": NOW + 0.5}
    return Client(**{**values, **changes})


def a_client_secret(secret_id: str = "secret-1", **changes: Any) -> ClientSecret:
    values: dict[str, Any] = {"secret_id": secret_id, "hash": digest(secret_id), "create_time": NOW}
    return ClientSecret(**{**values, **changes})


def an_end(client_id: str, state: ClientState, revision: int | None = None) -> RevocationDraft:
    """The revocation of a client that disables or deletes it."""
    return a_draft(RevocationTarget.CLIENT, client_id, client_end=ClientEnd(state, revision))
