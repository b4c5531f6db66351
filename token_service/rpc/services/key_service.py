"""KeyService: converts requests, calls the core, converts results."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.clock import Clock
from token_service.core.access.caller import Caller
from token_service.core.keys.administration import SigningKeys
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.manager import KeyManager
from token_service.core.revocation.key_revocation import KeyRevocation
from token_service.core.revocation.revoker import Revoker
from token_service.rpc.convert.responses import key_set, signing_key
from token_service.rpc.server.service import UnaryMethod
from token_service.v1 import key_service_pb2 as pb


class KeyService:
    """The methods of KeyService."""

    name: Final = pb.DESCRIPTOR.services_by_name["KeyService"].full_name
    is_serving: Final = True

    def __init__(
        self, keyring: Keyring, key_manager: KeyManager, revoker: Revoker, clock: Clock, issuer_name: str
    ) -> None:
        self._keyring = keyring
        self._signing_keys = SigningKeys(keyring, key_manager)
        self._key_revocation = KeyRevocation(keyring, revoker.carry_out)
        self._clock = clock
        self._issuer_name = issuer_name

    def methods(self) -> Sequence[UnaryMethod]:
        """Return the methods (see `Service`)."""
        return (
            UnaryMethod("GetKeySet", pb.GetKeySetRequest, self.GetKeySet),
            UnaryMethod("ListSigningKeys", pb.ListSigningKeysRequest, self.ListSigningKeys),
            UnaryMethod("PrepareSigningKey", pb.PrepareSigningKeyRequest, self.PrepareSigningKey),
            UnaryMethod("ActivateSigningKey", pb.ActivateSigningKeyRequest, self.ActivateSigningKey),
            UnaryMethod("RetireSigningKey", pb.RetireSigningKeyRequest, self.RetireSigningKey),
            UnaryMethod("RevokeSigningKey", pb.RevokeSigningKeyRequest, self.RevokeSigningKey),
        )

    async def GetKeySet(self, request: pb.GetKeySetRequest, caller: Caller) -> pb.GetKeySetResponse:
        """Return the public keys."""
        keyring = self._keyring
        return pb.GetKeySetResponse(key_set=key_set(keyring.jwks, keyring.revision, self._issuer_name))

    async def ListSigningKeys(
        self, request: pb.ListSigningKeysRequest, caller: Caller
    ) -> pb.ListSigningKeysResponse:
        """Return a page of the signing keys."""
        page = self._signing_keys.list(caller, request.page_size, request.page_token)
        return pb.ListSigningKeysResponse(
            signing_keys=map(signing_key, page.keys), next_page_token=page.next_page_token
        )

    async def PrepareSigningKey(
        self, request: pb.PrepareSigningKeyRequest, caller: Caller
    ) -> pb.PrepareSigningKeyResponse:
        """Create a key and publish it."""
        key = await self._signing_keys.prepare(caller, request.algorithm, request.rsa_bits)
        return pb.PrepareSigningKeyResponse(signing_key=signing_key(key))

    async def ActivateSigningKey(
        self, request: pb.ActivateSigningKeyRequest, caller: Caller
    ) -> pb.ActivateSigningKeyResponse:
        """Activate a prepared key."""
        key = await self._signing_keys.activate(caller, request.key_id, force=request.force)
        return pb.ActivateSigningKeyResponse(signing_key=signing_key(key))

    async def RetireSigningKey(
        self, request: pb.RetireSigningKeyRequest, caller: Caller
    ) -> pb.RetireSigningKeyResponse:
        """Retire a key: it no longer signs."""
        key = await self._signing_keys.retire(caller, request.key_id)
        return pb.RetireSigningKeyResponse(signing_key=signing_key(key))

    async def RevokeSigningKey(
        self, request: pb.RevokeSigningKeyRequest, caller: Caller
    ) -> pb.RevokeSigningKeyResponse:
        """Revoke a key and every token it signed."""
        revoked = await self._key_revocation.revoke(
            caller, request.key_id, request.comment, self._clock.now()
        )
        return pb.RevokeSigningKeyResponse(signing_key=signing_key(revoked.key), cursor=str(revoked.cursor))
