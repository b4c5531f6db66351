"""Pairwise subjects: the `sub` of ID tokens for clients that must not recognize each other's users.

The subject of a client is `base64url(HMAC-SHA-256(key, sector || 0x00 || subject))`. It depends on nothing else, so it
stays the same at every node, after a restart and after any other key has rotated.

A node can't find the subject from it. Therefore such a token has the subject a second time, sealed: encrypted with
AES-256-GCM under a key of its own, derived from its `jti`. Two tokens of a subject have nothing in common that a client
could compare, and every node can match a token with the revocation of its subject, without I/O.
"""

from __future__ import annotations

import hmac
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from token_service.core.clients.client import ClientState, SubjectType
from token_service.core.clients.lookup import ClientLookup
from token_service.core.clients.sectors import sector_of
from token_service.errors import ClientDisabledError, InvalidReason, InvalidTokenError, PolicyViolationError
from token_service.tokens import base64url
from token_service.tokens.claims import SEALED_SUBJECT, TokenKind, VerifiedClaims
from token_service.tokens.secret import Secret

_SEPARATOR: Final = b"\0"
_SEAL: Final = b"\0sealed_sub\0"
"""Begins with a byte that no sector has, so that no key of a seal is a subject."""
_NONCE: Final = bytes(12)
"""Constant, because each key seals one subject."""
_BLOCK: Final = 64
"""Sealed subjects have a multiple of so many bytes: their length must not tell them apart."""


class PairwiseSubjects:
    """The subjects in ID tokens, and the way back for this service."""

    def __init__(self, clients: ClientLookup, key: Secret | None) -> None:
        """`key`: the secret of all nodes; None: clients with pairwise subjects get no ID tokens here."""
        self._clients = clients
        self._key = key

    def require(self, client_id: str) -> None:
        """Raise `PolicyViolationError` if an ID token for the client can't be made here.

        Raises `ClientDisabledError` for a deleted client: whether its subjects were pairwise is no longer known.
        """
        client = self._clients.get(client_id)
        if client is not None and client.state is ClientState.DELETED:
            raise ClientDisabledError(metadata={"client_id": client_id})
        if client is None or client.subject_type is not SubjectType.PAIRWISE:
            return
        if self._key is None:
            raise PolicyViolationError(
                "the client is registered with pairwise subjects, for which this node lacks the key; "
                "set TOKEN_SERVICE_PAIRWISE_KEY or TOKEN_SERVICE_PAIRWISE_KEY_FILE at all nodes"
            )
        if not sector_of(client):
            raise PolicyViolationError("the client is registered with pairwise subjects, but has no sector")

    def claims(self, client_id: str, subject: str, token_id: str) -> dict[str, Any]:
        """Return the claims of an ID token that name its subject.

        Raises the errors of `require`.
        """
        sub = self.sub(client_id, subject)
        if self._key is None or not self._is_pairwise(client_id):
            return {"sub": sub}
        return {"sub": sub, SEALED_SUBJECT: self._seal(self._key, subject, token_id)}

    def sub(self, client_id: str, subject: str) -> str:
        """Return the subject as the client knows it. Raises the errors of `require`."""
        self.require(client_id)
        client = self._clients.get(client_id)
        if client is None or self._key is None or client.subject_type is not SubjectType.PAIRWISE:
            return subject
        message = sector_of(client).encode() + _SEPARATOR + subject.encode()
        return base64url.encode(hmac.digest(self._key.reveal(), message, "sha256"))

    def _is_pairwise(self, client_id: str) -> bool:
        client = self._clients.get(client_id)
        return client is not None and client.subject_type is SubjectType.PAIRWISE

    def subject_of(self, claims: VerifiedClaims) -> str:
        """Return the subject that a token of this service was issued for, also if its `sub` is pairwise.

        Raises `InvalidTokenError(UNKNOWN_KEY)` if the subject is sealed with another key than that of this node.
        """
        if claims.kind is not TokenKind.ID:
            return claims.subject
        sealed = claims.payload.get(SEALED_SUBJECT)
        if sealed is None:
            return claims.subject
        try:
            if self._key is None or not isinstance(sealed, str):
                raise ValueError("no key")
            padded = _cipher(self._key, claims.token_id).decrypt(
                _NONCE, base64url.decode(sealed.encode()), None
            )
            return padded.rstrip(_SEPARATOR).decode()
        except (ValueError, InvalidTag):
            raise InvalidTokenError(
                InvalidReason.UNKNOWN_KEY, "its subject is sealed with a key that this node lacks"
            ) from None

    def _seal(self, key: Secret, subject: str, token_id: str) -> str:
        data = subject.encode()
        padded = data + bytes(-len(data) % _BLOCK)  # no subject has a NUL, which is not printable
        return base64url.encode(_cipher(key, token_id).encrypt(_NONCE, padded, None))


def _cipher(key: Secret, token_id: str) -> AESGCM:
    return AESGCM(hmac.digest(key.reveal(), _SEAL + token_id.encode(), "sha256"))
