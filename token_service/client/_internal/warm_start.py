"""A snapshot on disk, so that a validator can start while the service is down.

The file has a fixed first line, an HMAC-SHA-256 over this line and the content, and the content in MessagePack. It
contains public keys and fingerprints, no secrets. Without the MAC, an attacker who can write the file could make a
revoked token valid again.

A restored replica is never fresh. Its age, counted from the last proof of freshness before the file was written,
decides whether `WhenStale.ACCEPT` may use it. A snapshot older than `WarmStart.max_age` is not restored.
"""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from token_service.client._internal.clock import Instant
from token_service.client._internal.following.state import FollowerState
from token_service.client._internal.setup import Parts
from token_service.client.config import WarmStart
from token_service.files import read_regular
from token_service.tokens.revocation import Cursor, Revocation, RevocationReason, RevocationTarget
from token_service.tokens.revocation_set import Block, Floor, RevocationSet
from token_service.tokens.secret import Secret

_MAGIC: Final = b"token-service warm start 2\n"
_MAC_BYTES: Final = 32
_CLOCK_SLACK: Final = 60.0
_MAX_BYTES: Final = 1 << 30
"""Size limit of the file. A revoked id takes about 10 bytes, a revoked subject or client 40."""
_FLOORS_A_STEP: Final = 1000

logger = logging.getLogger(__name__)


class _Entry(msgspec.Struct, array_like=True):
    sequence: int
    target: RevocationTarget
    value: str
    revoke_time: float
    expire_time: float
    reason: RevocationReason


class _Block(msgspec.Struct, array_like=True):
    target: RevocationTarget
    bucket: int
    fingerprints: bytes
    expire_time: float


class _Floor(msgspec.Struct, array_like=True):
    target: RevocationTarget
    fingerprint: bytes
    sequence: int
    revoke_time: float
    expire_time: float


class Content(msgspec.Struct):
    """Content of the file."""

    issuer: str
    saved_at: float
    """Wall clock."""
    proof_age: float | None
    """Seconds between the last proof of freshness and `saved_at`."""
    cursor: str
    key_revision: int
    jwks: list[dict[str, Any]]
    entries: list[_Entry]
    blocks: list[_Block]
    floors: list[_Floor]


_decoder = msgspec.msgpack.Decoder(Content)


class Collector:
    """Collector of the content in steps of one block, so that other work can run between the steps.

    The content may have entries newer than its cursor. The stream sends these entries again, which changes nothing.
    """

    def __init__(self, follower_state: FollowerState, parts: Parts) -> None:
        cursor = follower_state.cursor
        self.content: Content | None = None
        self._revocations = follower_state.feed.revocations
        if cursor is None or not follower_state.jwks or parts.service is None:
            return
        saved = Instant.of(
            parts.clock
        )  # a process that is stopped between the two readings makes the proof older, not younger
        proof = saved.elapsed - follower_state.feed.proven_at
        self.content = Content(
            parts.service.issuer,
            saved.now,
            proof if proof < float("inf") else None,
            str(cursor),
            follower_state.key_revision,
            follower_state.jwks,
            [
                _Entry(e.sequence, e.target, e.value, e.revoke_time, e.expire_time, e.reason)
                for e in self._revocations.entries()
            ],
            [],
            [],
        )

    def steps(self) -> Iterator[None]:
        """Collect the content. It is complete at the end, or None if the replica is still empty."""
        if self.content is not None:
            for b in self._revocations.blocks():
                self.content.blocks.append(_Block(b.target, b.bucket, b.fingerprints, b.expire_time))
                yield
            for number, f in enumerate(self._revocations.floors()):
                self.content.floors.append(
                    _Floor(f.target, f.fingerprint, f.sequence, f.revoke_time, f.expire_time)
                )
                if number % _FLOORS_A_STEP == 0:
                    yield


def write(path: Path, mac_key: Secret, content: Content) -> bool:
    """Replace the file atomically, readable by its owner only.

    Logs an error and returns False on failure.
    """
    data = msgspec.msgpack.encode(content)
    data = _mac(mac_key, data) + data
    try:
        descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(_MAGIC)
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            with suppress(OSError):
                Path(name).unlink()
            raise
    except OSError as error:
        logger.error("the snapshot of the revocations could not be written: %s", error)  # noqa: TRY400  # no trace needed
        return False
    return True


def restore(warm_start: WarmStart, follower_state: FollowerState, parts: Parts) -> bool:
    """Restore the state from the file.

    Returns False, and changes nothing, if the file is missing, not authentic, of another issuer or too old.
    """
    content = _read(warm_start.path, warm_start.mac_key)
    if content is None or parts.service is None or content.issuer != parts.service.issuer:
        return False
    # In this order, a process that is stopped between the two readings overestimates the age of the proof.
    elapsed = parts.clock.elapsed()
    age = parts.clock.now() - content.saved_at
    if not -_CLOCK_SLACK <= age <= warm_start.max_age:
        logger.warning("the snapshot of the revocations is %.0f s old and is not used", age)
        return False
    revocations = RevocationSet()
    try:
        cursor = Cursor.parse(content.cursor)
        for block in content.blocks:
            revocations.load(Block(block.target, block.bucket, block.fingerprints, block.expire_time))
    except ValueError:
        return False
    for f in content.floors:
        revocations.load_floor(Floor(f.target, f.fingerprint, f.sequence, f.revoke_time, f.expire_time))
    for e in content.entries:
        revocations.apply(Revocation(e.sequence, e.target, e.value, e.revoke_time, e.expire_time, e.reason))
    if not follower_state.restore_keys(content.jwks, content.key_revision):
        return False
    proof_age = float("inf") if content.proof_age is None else content.proof_age + max(age, 0.0)
    follower_state.restore(revocations, cursor, elapsed - proof_age)
    return True


def _read(path: Path, mac_key: Secret) -> Content | None:
    try:
        data = read_regular(path, _MAX_BYTES)
    except FileNotFoundError:
        return None
    except OSError as error:
        logger.warning("the snapshot of the revocations can't be read: %s", error)
        return None
    body = data[len(_MAGIC) + _MAC_BYTES :]
    mac = data[len(_MAGIC) : len(_MAGIC) + _MAC_BYTES]
    if not data.startswith(_MAGIC) or not hmac.compare_digest(mac, _mac(mac_key, body)):
        logger.warning("the snapshot of the revocations is not authentic and is not used")
        return None
    try:
        return _decoder.decode(body)
    except msgspec.MsgspecError:
        logger.warning("the snapshot of the revocations has another version and is not used")
        return None


def _mac(key: Secret, body: bytes) -> bytes:
    mac = hmac.new(key.reveal(), _MAGIC, hashlib.sha256)
    mac.update(body)
    return mac.digest()
