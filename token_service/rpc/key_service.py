"""KeyService: convert, call, convert."""

from __future__ import annotations

from token_service.core.keyring import Keyring
from token_service.core.limits import DEFAULT_PAGE, MAX_PAGE, Checks
from token_service.core.ports import StoredSigningKey
from token_service.rpc.authorizer import Caller
from token_service.rpc.responses import key_set, signing_key
from token_service.tokens import base64url
from token_service.v1 import key_service_pb2 as pb


class KeyService:
    """The methods of KeyService."""

    def __init__(self, keyring: Keyring, issuer_name: str) -> None:
        self._keyring = keyring
        self._issuer_name = issuer_name

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


def _position(key: StoredSigningKey) -> tuple[int, str]:
    """Where a key is in the list, in descending order. A page goes on there even if that very key has gone."""
    return round(key.create_time * 1_000_000), key.key_id


def _format_position(key: StoredSigningKey) -> str:
    micros, key_id = _position(key)
    return base64url.encode(micros.to_bytes(8) + key_id.encode())


def _parse_position(text: str) -> tuple[int, str]:
    data = base64url.decode(text.encode("ascii"))
    if len(data) <= 8:
        raise ValueError("not a position")
    return int.from_bytes(data[:8]), data[8:].decode()
