"""The exported form of the audit trail: JSON lines of all events, and a signed checkpoint as the last line."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from typing import Any, Final

import msgspec

from token_service.core.events.chain import AuditRow
from token_service.core.events.checkpoint import Checkpoint
from token_service.core.events.store import AuditStore
from token_service.errors import StoreUnavailableError

_PAGE: Final = 500
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder().decode


class _CheckpointLine(msgspec.Struct):
    checkpoint: Checkpoint


_checkpoint_line: Final = msgspec.json.Decoder(_CheckpointLine).decode


def members_of(row: AuditRow) -> dict[str, Any]:
    """Return an event as JSON members. `personal` is false after an erasure."""
    members: dict[str, Any] = msgspec.to_builtins(row, builtin_types=(bytes,))
    fields: Mapping[str, Any] = _decode(row.fields)
    for name in ("salt", "personal_hash", "mac"):
        members[name] = None if members[name] is None else members[name].hex()
    return {**members, "target_id": row.target, "time": row.time / 1_000_000, "fields": fields}


async def export(store: AuditStore, now: float) -> AsyncIterator[bytes]:
    """Write a full checkpoint; yield the lines of all events that it covers, and its own line.

    Raises `StoreUnavailableError` if other nodes keep writing checkpoints.
    """
    checkpoint = await store.checkpoint(now, full=True)
    if checkpoint is None:
        raise StoreUnavailableError(
            "another node wrote a checkpoint at the same time; try again", retry_after=1.0
        )
    for chain_id, head in sorted(checkpoint.heads.items()):
        after = 0
        while page := await store.rows(chain_id, after, _PAGE):
            for row in page:
                if row.position <= head.position:
                    yield _encode(members_of(row)) + b"\n"
            after = page[-1].position
            if after >= head.position:
                break
    yield _encode(_CheckpointLine(checkpoint)) + b"\n"


def parse_checkpoint(text: bytes) -> Checkpoint:
    """Return the checkpoint in the last line of an export. Raises `ValueError`."""
    lines = text.strip().splitlines()
    try:
        return _checkpoint_line(lines[-1] if lines else b"").checkpoint
    except msgspec.MsgspecError:
        raise ValueError("has no checkpoint in its last line") from None
