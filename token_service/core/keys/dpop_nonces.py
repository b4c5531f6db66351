"""The nonces of this service for DPoP proofs (RFC 9449, section 8): all nodes give out and accept the same ones."""

from __future__ import annotations

import hmac
from typing import Final

from token_service.core.keys.keyring import Keyring
from token_service.tokens.dpop_nonces import DpopNonces
from token_service.tokens.opaque_token import MacKeys
from token_service.tokens.secret import Secret

_LABEL: Final = b"dpop nonce\0"


class ServiceNonces:
    """Makes nonces with keys that are derived from the MAC keys of the service.

    A node that lacks the newest MAC key for a moment refuses the nonces of the others. Its own nonce is in the refusal.
    """

    def __init__(self, keyring: Keyring) -> None:
        self._keyring = keyring
        self._derived: tuple[MacKeys, DpopNonces] | None = None

    def current(self) -> DpopNonces:
        """Return the nonces by the current keys."""
        keys = self._keyring.mac_keys
        derived = self._derived
        if derived is None or derived[0] != keys:
            derived = self._derived = keys, DpopNonces(_derive(keys))
        return derived[1]


def _derive(keys: MacKeys) -> list[Secret]:
    """Return a key for each MAC key, that of the active one first."""
    versions = sorted(keys.keys, key=lambda version: version != keys.active)
    return [Secret(hmac.digest(keys.keys[version].reveal(), _LABEL, "sha256")) for version in versions]
