"""Checkpoints: signed statements of how far all chains of the audit trail reach.

A checkpoint names the heads that moved since the one before it. A full checkpoint names all heads, and the cuts: the
last rows that the retention deleted. Checkpoints form a chain, too.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import msgspec

from token_service.core.events.chain import AuditKeys

_encode: Final = msgspec.json.Encoder(order="sorted").encode
_decode: Final = msgspec.json.Decoder().decode


class Place(msgspec.Struct, frozen=True, array_like=True):
    """A row of a chain and its MAC in hexadecimal digits."""

    position: int
    mac: str


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """One checkpoint. `create_time` is in microseconds since the Unix epoch."""

    number: int
    create_time: int
    full: bool
    heads: Mapping[str, Place]
    cuts: Mapping[str, Place]
    key_version: str
    previous_mac: str
    mac: str = ""

    def signed(self, keys: AuditKeys) -> Checkpoint | None:
        """Return the checkpoint with its MAC; None without its key."""
        members: dict[str, Any] = msgspec.to_builtins(self)
        del members["mac"]
        mac = keys.mac(self.key_version, b"audit checkpoint", _encode(members))
        return None if mac is None else msgspec.structs.replace(self, mac=mac.hex())


_places: Final = msgspec.json.Decoder(dict[str, Place]).decode


def places_of(text: str) -> Mapping[str, Place]:
    """Return the places of a JSON text. Raises `msgspec.MsgspecError`."""
    return _places(text)


def text_of(places: Mapping[str, Place]) -> str:
    """Return the JSON text of places."""
    return _encode(places).decode()
