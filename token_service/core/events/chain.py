"""Chained rows of the audit trail, and their MACs.

    mac(n) = HMAC-SHA256(key, "audit row" || mac(n - 1) || canonical encoding of row n)

Row 1 of a chain follows an empty MAC. The encoding holds a commitment to the personal fields instead of the fields:
SHA-256 of a random salt and the fields. Erasure deletes both, and the MAC stays valid.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Sequence
from operator import attrgetter
from typing import Any, Final

import msgspec

from token_service.core.events.event import ACTOR_SESSION, AuditEvent
from token_service.tokens import base64url
from token_service.tokens.secret import Secret

SALT_BYTES: Final = 16

_encode: Final = msgspec.json.Encoder().encode


class AuditKeys:
    """The keys of the chains: the first makes MACs, all verify. Each has a version that is derived from the key."""

    def __init__(self, keys: Sequence[Secret]) -> None:
        """Raises `ValueError` without a key."""
        if not keys:
            raise ValueError("an audit trail needs a key")
        self._keys: Final = {_version_of(key): key for key in keys}
        self.version: Final = _version_of(keys[0])
        """The version of the first key."""

    def mac(self, version: str, label: bytes, data: bytes) -> bytes | None:
        """Return the MAC of `data` for a purpose; None without a key of this version."""
        key = self._keys.get(version)
        return None if key is None else hmac.digest(key.reveal(), label + b"\0" + data, "sha256")

    def __repr__(self) -> str:
        return f"<AuditKeys {self.version}>"


def _version_of(key: Secret) -> str:
    digest = hashlib.sha256(b"token_service audit key version" + key.reveal()).digest()
    return base64url.encode(digest[:12])


class AuditRow(msgspec.Struct, frozen=True, kw_only=True):
    """One row of a chain. `time` is in microseconds since the Unix epoch."""

    chain_id: str
    position: int
    time: int
    action: str
    category: str
    actor_kind: str
    actor_name: str
    actor_client_id: str
    actor_proof: str
    session_id: str
    client_id: str
    target_kind: str
    target_id: str
    """Empty if the target is a subject, which is a personal field."""
    outcome: str
    reason: str
    fields: str
    """JSON."""
    on_behalf_of: str
    subject: str
    comment: str
    ip_address: str
    user_agent: str
    salt: bytes | None
    """None: the personal fields were erased."""
    personal_hash: bytes
    key_version: str
    mac: bytes = b""

    @property
    def is_erased(self) -> bool:
        """Whether the personal fields were erased."""
        return self.salt is None

    @property
    def target(self) -> str:
        """The id of the target; empty after its erasure."""
        return self.subject if self.target_kind == "subject" else self.target_id


PERSONAL: Final = ("on_behalf_of", "subject", "comment", "ip_address", "user_agent")
"""The fields that an erasure empties."""
_personal: Final = attrgetter(*PERSONAL)
_chained: Final = attrgetter(
    *(name for name in AuditRow.__struct_fields__ if name not in {*PERSONAL, "salt", "personal_hash", "mac"})
)


def row_of(
    event: AuditEvent,
    chain_id: str,
    position: int,
    time: int,
    salt: bytes,
    version: str,
    *,
    clean: Callable[[str], str],
) -> AuditRow:
    """Return the row of an event, without its MAC. `time` counts if the event has none.

    `clean` removes tokens that a caller passed in the wrong field.
    """

    def text(value: str) -> str:
        return clean(_text(value)) if value else value

    actor, target, fields = event.actor, event.target, event.fields
    if actor.session_id:
        fields = {**fields, ACTOR_SESSION: actor.session_id}
    personal = tuple(
        map(
            text,
            (
                actor.on_behalf_of,
                target.subject,
                event.comment,
                event.origin.ip_address,
                event.origin.user_agent,
            ),
        )
    )
    return AuditRow(
        chain_id=chain_id,
        position=position,
        time=time if event.time is None else round(event.time * 1_000_000),
        action=event.action.value,
        category=event.action.category.value,
        actor_kind=actor.kind,
        actor_name=text(actor.name),
        actor_client_id=text(actor.client_id),
        actor_proof=actor.proof,
        session_id=text(target.session_id),
        client_id=text(target.client_id),
        target_kind=target.kind,
        target_id="" if target.kind == "subject" else text(target.id),
        outcome=event.outcome.value,
        reason=event.reason,
        fields=clean(_encode(fields).decode()),
        on_behalf_of=personal[0],
        subject=personal[1],
        comment=personal[2],
        ip_address=personal[3],
        user_agent=personal[4],
        salt=salt,
        personal_hash=commitment(salt, personal),
        key_version=version,
    )


def commitment(salt: bytes, personal: Sequence[str]) -> bytes:
    """Return the hash that stands for the personal fields of a row."""
    return hashlib.sha256(salt + _encode(personal)).digest()


def personal_of(row: AuditRow) -> tuple[str, ...]:
    """Return the personal fields of a row."""
    personal: tuple[str, ...] = _personal(row)
    return personal


def mac_of(row: AuditRow, previous: bytes, keys: AuditKeys) -> bytes | None:
    """Return the MAC of a row after a row with the MAC `previous`; None without its key."""
    members: list[Any] = [1, *_chained(row), row.personal_hash.hex()]
    return keys.mac(row.key_version, b"audit row", previous + _encode(members))


def _text(text: str) -> str:
    """Return a text that every database stores unchanged."""
    if text.isascii() and "\0" not in text:
        return text
    return text.encode("utf-8", "replace").decode().replace("\0", "\ufffd")
