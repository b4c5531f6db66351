"""KeyService: convert, call, convert."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.access.permissions import Permission
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.manager import KeyManager
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.limits import DEFAULT_PAGE, MAX_KEY_ID, MAX_PAGE, Checks
from token_service.core.revocation.revoker import RevokeCommand, Revoker
from token_service.errors import ConfigurationError
from token_service.rpc.convert.responses import key_set, signing_key
from token_service.rpc.server.service import UnaryMethod
from token_service.tokens import base64url
from token_service.tokens.algorithms import RSA_SIZES, Algorithm
from token_service.tokens.revocation import RevocationTarget
from token_service.v1 import key_service_pb2 as pb

_ALGORITHMS: Final = (Algorithm.RS256.value, Algorithm.ES256.value, Algorithm.EDDSA.value)


class KeyService:
    """The methods of KeyService."""

    name: Final = pb.DESCRIPTOR.services_by_name["KeyService"].full_name
    is_serving: Final = True

    def __init__(
        self, keyring: Keyring, key_manager: KeyManager, revoker: Revoker, clock: Clock, issuer_name: str
    ) -> None:
        self._keyring = keyring
        self._key_manager = key_manager
        self._revoker = revoker
        self._clock = clock
        self._issuer_name = issuer_name

    def methods(self) -> Sequence[UnaryMethod]:
        """See `Service`."""
        admin = Permission.ADMIN
        return (
            UnaryMethod("GetKeySet", None, pb.GetKeySetRequest, self.GetKeySet),
            UnaryMethod("ListSigningKeys", admin, pb.ListSigningKeysRequest, self.ListSigningKeys),
            UnaryMethod("PrepareSigningKey", admin, pb.PrepareSigningKeyRequest, self.PrepareSigningKey),
            UnaryMethod("ActivateSigningKey", admin, pb.ActivateSigningKeyRequest, self.ActivateSigningKey),
            UnaryMethod("RetireSigningKey", admin, pb.RetireSigningKeyRequest, self.RetireSigningKey),
            UnaryMethod("RevokeSigningKey", admin, pb.RevokeSigningKeyRequest, self.RevokeSigningKey),
        )

    async def GetKeySet(self, request: pb.GetKeySetRequest, caller: Caller | None) -> pb.GetKeySetResponse:
        """The public keys."""
        keyring = self._keyring
        return pb.GetKeySetResponse(key_set=key_set(keyring.jwks, keyring.revision, self._issuer_name))

    async def ListSigningKeys(
        self, request: pb.ListSigningKeysRequest, caller: Caller | None
    ) -> pb.ListSigningKeysResponse:
        """A page of the signing keys."""
        checks = Checks()
        if not 0 <= request.page_size <= MAX_PAGE:
            checks.add("page_size", f"is not from 0 to {MAX_PAGE}")
        after: tuple[int, str] | None = None
        if request.page_token:
            try:
                after = _parse_position(request.page_token)
            except ValueError:
                checks.add("page_token", "is not one this service gave")
        checks.done()
        size = request.page_size or DEFAULT_PAGE
        keys = [key for key in self._keyring.signing_keys() if after is None or _position(key) < after]
        page = keys[:size]
        return pb.ListSigningKeysResponse(
            signing_keys=[signing_key(key) for key in page],
            next_page_token=_format_position(page[-1]) if len(keys) > size else "",
        )

    async def PrepareSigningKey(
        self, request: pb.PrepareSigningKeyRequest, caller: Caller | None
    ) -> pb.PrepareSigningKeyResponse:
        """Make a key and publish it."""
        checks = Checks()
        if request.algorithm not in ("", *_ALGORITHMS):
            checks.add("algorithm", f"is none of {', '.join(_ALGORITHMS)}")
        if request.rsa_bits not in (0, *RSA_SIZES):
            checks.add("rsa_bits", f"is none of {', '.join(map(str, RSA_SIZES))}")
        checks.done()
        algorithm = Algorithm(request.algorithm) if request.algorithm else None
        key = await self._key_manager.prepare(algorithm, request.rsa_bits or None)
        return pb.PrepareSigningKeyResponse(signing_key=signing_key(key))

    async def ActivateSigningKey(
        self, request: pb.ActivateSigningKeyRequest, caller: Caller | None
    ) -> pb.ActivateSigningKeyResponse:
        """Let a prepared key sign."""
        key = await self._key_manager.activate(_key_id(request.key_id), force=request.force)
        return pb.ActivateSigningKeyResponse(signing_key=signing_key(key))

    async def RetireSigningKey(
        self, request: pb.RetireSigningKeyRequest, caller: Caller | None
    ) -> pb.RetireSigningKeyResponse:
        """Let a key sign no more."""
        key = await self._key_manager.retire(_key_id(request.key_id))
        return pb.RetireSigningKeyResponse(signing_key=signing_key(key))

    async def RevokeSigningKey(
        self, request: pb.RevokeSigningKeyRequest, caller: Caller | None
    ) -> pb.RevokeSigningKeyResponse:
        """Refuse a key and all it signed."""
        key_id = _key_id(request.key_id)
        with suppress(ConfigurationError):  # the keys of this node are enough for a kill
            await self._keyring.refresh()  # another node may just have made it
        self._keyring.get(key_id)
        now = self._clock.now()
        command = RevokeCommand(target=RevocationTarget.KEY, value=key_id, comment=request.comment)
        outcome = await self._revoker.revoke(command, now)
        key = self._keyring.get(key_id)
        if key.state is not SigningKeyState.REVOKED:
            key = replace(key, state=SigningKeyState.REVOKED, revoke_time=now)
        return pb.RevokeSigningKeyResponse(signing_key=signing_key(key), cursor=str(outcome.cursor))


def _key_id(text: str) -> str:
    checks = Checks()
    checks.text("key_id", text, MAX_KEY_ID, required=True)
    checks.done()
    return text


def _position(key: StoredSigningKey) -> tuple[int, str]:
    """Where a key is in the list, in descending order.

    A page goes on there even if that very key has gone.
    """
    return round(key.create_time * 1_000_000), key.key_id


def _format_position(key: StoredSigningKey) -> str:
    micros, key_id = _position(key)
    return base64url.encode(micros.to_bytes(8) + key_id.encode())


def _parse_position(text: str) -> tuple[int, str]:
    data = base64url.decode(text.encode("ascii"))
    if len(data) <= 8:
        raise ValueError("not a position")
    return int.from_bytes(data[:8]), data[8:].decode()
