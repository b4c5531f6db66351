"""The transaction that appends to the revocation log and applies the effects of the entries."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final, TypeAlias
from uuid import UUID

import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import AuditEvent
from token_service.core.keys.store import SigningKeyState
from token_service.core.revocation.log import LogHead, RevocationDraft
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.clients import end_clients
from token_service.stores.sql.engine.prepared import Prepared
from token_service.stores.sql.expressions import least
from token_service.stores.sql.log_head import PERSONAL_REVISION, head_here, locked_row, written_here
from token_service.stores.sql.micros import to_micros
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.revocation_floors import FLOORS, floors_of, raise_floors
from token_service.stores.sql.rows import REVOCATION_COLUMNS, revocation_of, sealed_entry, values_of_draft
from token_service.stores.sql.schema import log_head, revocations, sessions, signing_keys
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget

Appended: TypeAlias = tuple[LogHead, Sequence[Revocation]]
"""The head after an append, and the entries of the append."""

_SEQUENCE: Final = sa.bindparam("p_sequence", type_=sa.BigInteger)
_ADVANCE: Final = sa.update(log_head).values(
    sequence=_SEQUENCE,
    key_revision=sa.bindparam("p_key_revision", type_=sa.BigInteger),
    client_revision=sa.bindparam("p_client_revision", type_=sa.BigInteger),
    newest_time=sa.bindparam("p_newest_time", type_=sa.BigInteger),
    newest_sequence=_SEQUENCE,
    awaited_sequence=sa.bindparam("p_awaited_sequence", type_=sa.BigInteger),
    **written_here(_SEQUENCE),
)


class LogAppender:
    """Locks the head, numbers the entries from there, and inserts them, their effects and their audit events."""

    def __init__(self, dialect: sa.Dialect, append_events: AppendEvents, personal: PersonalData) -> None:
        self._append_events: Final = append_events
        self._personal: Final = personal
        self._insert: Final = Prepared(sa.insert(revocations), dialect)
        self._advance: Final = Prepared(_ADVANCE, dialect)
        self._raise_floors: Final = raise_floors(dialect)

    async def __call__(
        self, connection: AsyncConnection, batch: Sequence[Sequence[RevocationDraft]]
    ) -> Sequence[Appended]:
        """Append the drafts of each call of a batch. Raises `LogMovedError`."""
        locked = await locked_row(connection)
        head = head_here(locked)
        keys = await self._personal.at(locked[PERSONAL_REVISION], connection)
        drafts = [draft for drafts in batch for draft in drafts]
        conditional = {RevocationTarget.SESSION, RevocationTarget.KEY}
        kept = {
            position
            for position, draft in enumerate(drafts)
            if draft.restored or draft.target not in conditional
        }
        kept |= await _revoke_sessions(connection, drafts)
        revoked_keys = await _revoke_keys(connection, drafts)
        ended_clients, refused = await end_clients(connection, drafts, head.client_revision)
        kept = (kept | revoked_keys) - refused

        sequence, newest, awaited = head.sequence, head.newest, head.awaited
        entries: list[dict[str, Any]] = []
        floors: list[dict[str, Any]] = []
        events: list[AuditEvent] = []
        appended: list[tuple[float | None, list[Revocation]]] = []
        position = itertools.count()
        for item in batch:
            mine: list[Revocation] = []
            follows = newest
            for draft in item:
                if next(position) not in kept:
                    continue
                sequence += 1
                if draft.awaited:
                    awaited = sequence
                values = values_of_draft(draft, sequence, head.read_time)
                entries.append(sealed_entry(values, keys))
                mine.append(revocation_of([values[column.name] for column in REVOCATION_COLUMNS]))
                if draft.target in FLOORS:
                    floors += floors_of(values, keys)
                if draft.verdict is not None:
                    events.append(draft.verdict)
                if draft.event is not None:
                    events.append(at(draft.event, head.epoch, sequence))
            if mine:
                newest = mine[-1].revoke_time
            appended.append((follows, mine))

        key_revision = head.key_revision + len(revoked_keys)
        client_revision = head.client_revision + ended_clients
        if entries:
            await self._insert.run(connection, entries)
            await self._advance.run(
                connection,
                [
                    {
                        "p_sequence": sequence,
                        "p_key_revision": key_revision,
                        "p_client_revision": client_revision,
                        "p_newest_time": entries[-1]["revoke_time"],
                        "p_awaited_sequence": awaited,
                    }
                ],
            )
        if floors:
            await self._raise_floors.run(connection, floors)
        await self._append_events(connection, events)
        after = LogHead(
            head.epoch,
            sequence,
            head.compacted,
            key_revision,
            newest,
            awaited=awaited,
            client_revision=client_revision,
            policies_revision=head.policies_revision,
        )
        return [(replace(after, follows=follows), mine) for follows, mine in appended]


def at(event: AuditEvent, epoch: str, sequence: int) -> AuditEvent:
    """Return the event of an entry with the cursor of the entry."""
    return structs.replace(event, fields={**event.fields, "cursor": str(Cursor(epoch, sequence))})


async def _revoke_sessions(connection: AsyncConnection, drafts: Sequence[RevocationDraft]) -> set[int]:
    """Mark sessions as revoked, and return the positions of the drafts whose session was not yet revoked.

    Locks the rows in the order of their ids.
    """
    wanted: dict[UUID, int] = {}
    for position, draft in enumerate(drafts):
        if draft.target is RevocationTarget.SESSION:
            session_id = _uuid(draft.value)
            if session_id is not None:
                wanted.setdefault(session_id, position)
    if not wanted:
        return set()
    alive = (
        sa.select(sessions.c.id)
        .where(sessions.c.id.in_(wanted), sessions.c.revoke_time.is_(None))
        .order_by(sessions.c.id)
        .with_for_update()
    )
    found = list((await connection.execute(alive)).scalars())
    if found:
        revoke_time = sa.bindparam("p_revoke_time", type_=sa.BigInteger)
        await connection.execute(
            sa.update(sessions)
            .where(sessions.c.id == sa.bindparam("p_id", type_=sa.Uuid))
            .values(
                revoke_time=revoke_time,
                revoke_reason=sa.bindparam("p_reason", type_=sa.SmallInteger),
                purge_time=least(sessions.c.purge_time, revoke_time),
            ),
            [
                {
                    "p_id": session_id,
                    "p_revoke_time": to_micros(draft.revoke_time),
                    "p_reason": int(draft.reason),
                }
                for session_id in found
                for draft in (drafts[wanted[session_id]],)
            ],
        )
    return {wanted[session_id] for session_id in found}


async def _revoke_keys(connection: AsyncConnection, drafts: Sequence[RevocationDraft]) -> set[int]:
    """Revoke signing keys, and return the positions of the drafts whose key exists and was not yet revoked.

    The locked head prevents other changes of the keys.
    """
    revoked: set[int] = set()
    for position, draft in enumerate(drafts):
        if draft.target is RevocationTarget.KEY:
            result = await connection.execute(
                sa.update(signing_keys)
                .where(
                    signing_keys.c.key_id == draft.value,
                    signing_keys.c.state != SigningKeyState.REVOKED.value,
                )
                .values(state=SigningKeyState.REVOKED.value, revoke_time=to_micros(draft.revoke_time))
            )
            if result.rowcount:
                revoked.add(position)
    return revoked


def _uuid(text: str) -> UUID | None:
    try:
        return UUID(text)
    except ValueError:
        return None
