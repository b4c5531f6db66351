"""Messages of StreamRevocations as bytes, joined from parts that are encoded once.

The concatenation of two encoded messages is the encoding of both merged (protobuf, "Encoding": the last field wins,
repeated fields add up), so each part is a StreamRevocationsResponse.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from token_service.rpc.convert.responses import key_set, revocation, snapshot_block
from token_service.tokens.revocation import Revocation
from token_service.tokens.revocation_set import Block
from token_service.v1.token_service_pb2 import StreamRevocationsResponse

RESET: Final = StreamRevocationsResponse(reset=True).SerializeToString()
_CAUGHT_UP: Final = StreamRevocationsResponse(caught_up=True).SerializeToString()
_CONFIRM: Final = StreamRevocationsResponse(confirmation_requested=True).SerializeToString()


def encode_entry(entry: Revocation) -> bytes:
    """Encode a log entry."""
    return StreamRevocationsResponse(revocations=[revocation(entry)]).SerializeToString()


def encode_block(block: Block) -> bytes:
    """Encode a block of a snapshot."""
    return StreamRevocationsResponse(snapshot_blocks=[snapshot_block(block)]).SerializeToString()


def encode_keys(jwks: Iterable[Mapping[str, Any]], revision: int, issuer: str) -> bytes:
    """Encode the key set."""
    return StreamRevocationsResponse(key_set=key_set(jwks, revision, issuer)).SerializeToString()


def encode_position(cursor: str, *, caught_up: bool, confirm: bool = False) -> bytes:
    """Encode the position a message reaches."""
    encoded = StreamRevocationsResponse(cursor=cursor).SerializeToString()
    if caught_up:
        encoded += _CAUGHT_UP
    if confirm:
        encoded += _CONFIRM
    return encoded
