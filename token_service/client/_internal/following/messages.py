"""Conversion of stream messages to the types of `tokens`."""

from __future__ import annotations

from google.protobuf.timestamp_pb2 import Timestamp

from token_service.tokens.revocation import Revocation, RevocationReason, RevocationTarget
from token_service.tokens.revocation_set import Block
from token_service.v1 import key_service_pb2, token_service_pb2

_TARGETS = {
    "token_id": RevocationTarget.TOKEN_ID,
    "session_id": RevocationTarget.SESSION,
    "subject": RevocationTarget.SUBJECT,
    "client_id": RevocationTarget.CLIENT,
    "key_id": RevocationTarget.KEY,
}
_BLOCK_TARGETS = {
    token_service_pb2.BLOCK_TARGET_TOKEN_ID: RevocationTarget.TOKEN_ID,
    token_service_pb2.BLOCK_TARGET_SESSION_ID: RevocationTarget.SESSION,
}
_REASONS = {int(reason): reason for reason in RevocationReason}


def revocation_of(message: token_service_pb2.Revocation) -> Revocation:
    """Convert an entry. Raises `ValueError` for an unknown target, because the entry might revoke anything."""
    name = message.WhichOneof("target")
    if name == "everything":
        target, value = RevocationTarget.EVERYTHING, ""
    elif name is not None:
        target, value = _TARGETS[name], getattr(message, name)
    else:
        raise ValueError("a revocation without a known target")
    return Revocation(
        message.sequence,
        target,
        value,
        _seconds(message.revoke_time),
        _seconds(message.expire_time),
        _REASONS.get(message.reason, RevocationReason.UNSPECIFIED),
        message.token_expire_time.seconds if message.HasField("token_expire_time") else None,
    )


def block_of(message: token_service_pb2.SnapshotBlock) -> Block:
    """Convert a block. Raises `ValueError` for an unknown target."""
    target = _BLOCK_TARGETS.get(message.target)
    if target is None:
        raise ValueError("a snapshot block without a known target")
    return Block(target, message.bucket, message.fingerprints, _seconds(message.expire_time))


def jwks_of(message: key_service_pb2.KeySet) -> list[dict[str, str]]:
    """Convert the keys to JSON Web Keys, without unset fields."""
    return [
        {field.name: value for field, value in key.ListFields() if field.name != "x5c"}
        for key in message.keys
    ]


def _seconds(timestamp: Timestamp) -> float:
    return float(timestamp.seconds + timestamp.nanos / 1_000_000_000)
