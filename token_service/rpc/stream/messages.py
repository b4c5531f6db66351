"""Messages of StreamRevocations as bytes, put together from parts that are encoded once.

The concatenation of two encoded messages is the encoding of both merged (protobuf, "Encoding", last field
wins, repeated fields add up), so each part is a StreamRevocationsResponse of its own.
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
    """An entry of the log."""
    return StreamRevocationsResponse(revocations=[revocation(entry)]).SerializeToString()


def encode_block(block: Block) -> bytes:
    """A part of a snapshot."""
    return StreamRevocationsResponse(snapshot_blocks=[snapshot_block(block)]).SerializeToString()


def encode_keys(jwks: Iterable[Mapping[str, Any]], revision: int, issuer: str) -> bytes:
    """The key set."""
    return StreamRevocationsResponse(key_set=key_set(jwks, revision, issuer)).SerializeToString()


def encode_position(cursor: str, *, caught_up: bool, confirm: bool = False) -> bytes:
    """Where a message leads."""
    encoded = StreamRevocationsResponse(cursor=cursor).SerializeToString()
    if caught_up:
        encoded += _CAUGHT_UP
    if confirm:
        encoded += _CONFIRM
    return encoded
