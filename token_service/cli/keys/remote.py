"""The signing keys of a running service."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from token_service.cli.keys.shown_key import ShownKey
from token_service.cli.remote.service import Service
from token_service.cli.waiting import revoke_and_wait
from token_service.errors import KeyNotFoundError
from token_service.v1 import key_service_pb2 as pb
from token_service.v1.token_service_pb2 import RevokeTokenRequest


class RemoteKeys:
    """The keys of a running service."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._stub = service.keys

    def list(self) -> Sequence[ShownKey]:
        """Return all keys."""
        found: list[ShownKey] = []
        page_token = ""
        while True:
            request = pb.ListSigningKeysRequest(page_size=200, page_token=page_token)
            page = self._service.call(self._stub.ListSigningKeys, request)
            found += map(_shown, page.signing_keys)
            page_token = page.next_page_token
            if not page_token:
                return found

    def prepare(self, algorithm: str, rsa_bits: int) -> ShownKey:
        """Make a key and publish it."""
        request = pb.PrepareSigningKeyRequest(algorithm=algorithm, rsa_bits=rsa_bits)
        return _shown(self._service.call(self._stub.PrepareSigningKey, request).signing_key)

    def activate(self, key_id: str, *, force: bool) -> ShownKey:
        """Let a prepared key sign."""
        request = pb.ActivateSigningKeyRequest(key_id=key_id, force=force)
        return _shown(self._service.call(self._stub.ActivateSigningKey, request).signing_key)

    def retire(self, key_id: str) -> ShownKey:
        """Stop a key from signing."""
        request = pb.RetireSigningKeyRequest(key_id=key_id)
        return _shown(self._service.call(self._stub.RetireSigningKey, request).signing_key)

    def revoke(
        self, key_id: str, comment: str, wait: float | None, *, quiet: bool
    ) -> tuple[ShownKey, tuple[int, int]]:
        """Revoke a key."""
        if wait is None:
            request = pb.RevokeSigningKeyRequest(key_id=key_id, comment=comment)
            return _shown(self._service.call(self._stub.RevokeSigningKey, request).signing_key), (0, 0)
        # RevokeToken accepts unknown keys, and RevokeSigningKey can't wait.
        if all(key.key_id != key_id for key in self.list()):
            raise KeyNotFoundError
        counts = revoke_and_wait(
            self._service, RevokeTokenRequest(key_id=key_id, comment=comment), wait, quiet=quiet
        )
        (key,) = (key for key in self.list() if key.key_id == key_id)
        return key, (counts.subscribers_connected, counts.subscribers_applied)


def _shown(key: pb.SigningKey) -> ShownKey:
    def seconds(field: Literal["activate_time", "retire_time", "revoke_time"]) -> float | None:
        return getattr(key, field).ToMicroseconds() / 1_000_000 if key.HasField(field) else None

    return ShownKey(
        key_id=key.key_id,
        algorithm=key.algorithm,
        state=pb.SigningKeyState.Name(key.state).removeprefix("SIGNING_KEY_STATE_").lower(),
        provider=key.provider,
        create_time=key.create_time.ToMicroseconds() / 1_000_000,
        activate_time=seconds("activate_time"),
        retire_time=seconds("retire_time"),
        revoke_time=seconds("revoke_time"),
    )
