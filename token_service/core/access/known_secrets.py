"""Client secrets that were proved before: a repeated `authorization` is recognized without parsing and comparing it."""

from __future__ import annotations

import hashlib
from typing import Final

import msgspec

from token_service.core.access.caller import Caller
from token_service.core.access.client_authentication import ClientAuthenticator
from token_service.core.clients.client import Client, ClientSecret

_MAX_KNOWN: Final = 4096
_BASIC: Final = ("Basic ", "basic ")


class _Known(msgspec.Struct, gc=False, frozen=True):
    client: Client
    secret: ClientSecret
    caller: Caller


class KnownSecrets:
    """Callers by the SHA-256 digest of the header field that proved them. The field itself is not kept.

    A caller counts only as long as the record of its client is the one that it was compared with, so every change of a
    client ends it. For one event loop.
    """

    def __init__(self, authentication: ClientAuthenticator) -> None:
        self._authentication = authentication
        self._known: dict[bytes, _Known] = {}

    def find(self, authorization: str, address: str) -> Caller | None:
        """Return the caller that a header field proves; None: examine it. Raises `OverloadedError` after many failures."""
        known = self._known.get(_digest(authorization)) if authorization.startswith(_BASIC) else None
        if known is None or not self._authentication.accepts_again(known.client, known.secret, address):
            return None
        return known.caller

    def add(self, authorization: str, client: Client, secret: ClientSecret, caller: Caller) -> None:
        """Keep a caller that a header field has just proved."""
        if len(self._known) >= _MAX_KNOWN:
            self._known.clear()
        self._known[_digest(authorization)] = _Known(client, secret, caller)


def _digest(authorization: str) -> bytes:
    return hashlib.sha256(authorization.encode("utf-8", "surrogatepass")).digest()
