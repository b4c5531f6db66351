"""The `SubjectStore` on SQL."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from uuid import UUID

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.administration.subjects.store import ApprovedDevice, PendingLogout, SubjectData
from token_service.core.events.chain import PERSONAL, AuditRow
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.events.store import AuditPosition
from token_service.core.grants.device_requests import DeviceRequest
from token_service.core.personal_data.cipher import Kind, Place
from token_service.core.personal_data.keys import PersonalKeys
from token_service.stores.sql.audit_chain import AppendEvents, audit_row_of
from token_service.stores.sql.device_requests import device_request_of
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.engine.turns import Turns
from token_service.stores.sql.expressions import is_one_of
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_text
from token_service.stores.sql.schema import audit_events, device_requests, logout_deliveries, sessions
from token_service.stores.sql.session_statements import live

_S: Final = sessions.c
_E: Final = audit_events.c
_R: Final = device_requests.c
_D: Final = logout_deliveries.c
_KEY: Final = sa.tuple_(_E.chain_id, _E.position)
_HAS_SUBJECT: Final = _E.subject != sa.literal_column("''")
"""The condition of the index by subject."""
_HAS_SESSION: Final = _E.session_id != sa.literal_column("''")
"""The condition of the index by session."""
_IS_KEPT: Final = _E.salt.is_not(None)
_PAGE: Final = 500
_UPDATE: Final = 500
"""Rows that one statement changes: it has two parameters for each."""


class SqlSubjectStore:
    """The data about one subject. See `core.administration.subjects.store.SubjectStore`."""

    def __init__(
        self, database: Database, append_events: AppendEvents, long_reads: Turns, personal: PersonalData
    ) -> None:
        self._database: Final = database
        self._personal: Final = personal
        self._append_events: Final = append_events
        self._long_reads: Final = long_reads

    async def count(self, subject: str) -> SubjectData:
        """See `SubjectStore.count`."""

        async def select(connection: AsyncConnection) -> SubjectData:
            forms = (await self._personal.current(connection)).forms(Kind.SUBJECT, subject)
            of_table = sa.select(sa.func.count()).select_from(sessions).where(is_one_of(_S.subject, forms))
            named = list(await _ids(connection, forms, "", None))
            # In parts, because a statement has a bounded number of parameters. The conditions exclude one another.
            conditions = [
                sa.and_(
                    _E.session_id.in_(named[start : start + _PAGE]),
                    _HAS_SESSION,
                    _E.subject.not_in(forms),
                    _E.on_behalf_of.not_in(forms),
                )
                for start in range(0, len(named), _PAGE)
            ]
            conditions += [
                sa.and_(is_one_of(_E.subject, forms), _HAS_SUBJECT),
                sa.and_(_on_behalf_of(forms), _E.subject.not_in(forms)),
            ]
            events = 0
            for condition in conditions:
                counted = sa.select(sa.func.count()).select_from(audit_events).where(condition, _IS_KEPT)
                events += await connection.scalar(counted) or 0
            return SubjectData(sessions=await connection.scalar(of_table) or 0, events=events)

        async with self._long_reads.turn():
            found = await self._database.read(select, snapshot=True)
        return found + SubjectData(
            logouts=len(await self._deliveries(subject)),
            device_requests=len(await self.device_requests(subject)),
        )

    async def session_ids(self, subject: str, after: str, limit: int) -> Sequence[str]:
        """See `SubjectStore.session_ids`."""

        async def select(connection: AsyncConnection) -> Sequence[str]:
            forms = (await self._personal.current(connection)).forms(Kind.SUBJECT, subject)
            return await _ids(connection, forms, after, limit)

        return await self._database.read(select, snapshot=True)

    async def acts(self, subject: str, *, limit: int, after: AuditPosition | None) -> Sequence[AuditRow]:
        """See `SubjectStore.acts`."""
        statement = (
            sa.select(audit_events)
            .order_by(_E.time.desc(), _E.chain_id.desc(), _E.position.desc())
            .limit(limit)
        )
        if after is not None:
            place = sa.tuple_(
                sa.literal(after.time, sa.BigInteger),
                sa.literal(after.chain_id, sa.Text),
                sa.literal(after.position, sa.BigInteger),
            )
            statement = statement.where(sa.tuple_(_E.time, _E.chain_id, _E.position) < place)

        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            forms = (await self._personal.current(connection)).forms(Kind.SUBJECT, subject)
            of_subject = statement.where(_on_behalf_of(forms), _E.subject.not_in(forms))
            return list(await connection.execute(of_subject))

        rows = await self._database.read(select, snapshot=True)
        return await self._personal.opened(lambda keys: [audit_row_of(row, keys) for row in rows])

    async def device_requests(self, subject: str) -> Sequence[ApprovedDevice]:
        """See `SubjectStore.device_requests`."""
        return [
            ApprovedDevice(
                client_id=each.client_id,
                scopes=each.scopes,
                audience=each.audience,
                expire_time=each.expire_time,
                approval=msgspec.to_builtins(each.decision.approval),
            )
            for each in await self._approved(subject)
            if each.decision is not None
        ]

    async def _approved(self, subject: str) -> Sequence[DeviceRequest]:
        """Return the requests that a subject has approved. The subject is in the JSON text of the decision."""
        found: list[DeviceRequest] = []
        after = b""
        while True:
            statement = (
                sa.select(*_R)
                .where(_R.decision.is_not(None), _R.user_code_digest > after)
                .order_by(_R.user_code_digest)
                .limit(_PAGE)
            )

            page = await self._personal.opened(partial(_requests, await self._select(statement)))
            found += [each for each in page if _approver(each) == subject]
            if len(page) < _PAGE:
                return found
            after = page[-1].user_code_digest

    async def logouts(self, subject: str, limit: int) -> Sequence[PendingLogout]:
        """See `SubjectStore.logouts`."""
        return (await self._deliveries(subject))[:limit]

    async def _deliveries(self, subject: str) -> Sequence[PendingLogout]:
        """Return the pending logouts of a subject. The table has no index by subject, and holds only pending ones."""
        found: list[PendingLogout] = []
        after: UUID | None = None
        while True:
            statement = (
                sa.select(_D.session_id, _D.client_id, _D.create_time, _D.subject)
                .order_by(_D.session_id)
                .limit(_PAGE)
            )
            if after is not None:
                statement = statement.where(_D.session_id > sa.literal(after, sa.Uuid))
            rows = await self._select(statement)
            found += await self._personal.opened(partial(_logouts, rows, subject))
            if len(rows) < _PAGE:
                return found
            after = rows[-1].session_id

    async def _select(self, statement: sa.Select[Any]) -> Sequence[sa.Row[Any]]:
        async def select(connection: AsyncConnection) -> Sequence[sa.Row[Any]]:
            return list(await connection.execute(statement))

        return await self._database.read(select)

    async def erase_sessions(self, actor: Actor, subject: str, now: float, limit: int) -> SubjectData:
        """See `SubjectStore.erase_sessions`."""
        ended = (
            sa.select(_S.id)
            .where(~live(sa.literal(to_micros(now), sa.BigInteger)))
            .order_by(_S.id)
            .limit(min(limit, _PAGE))
            .with_for_update()
        )

        async def work(connection: AsyncConnection) -> SubjectData:
            forms = await self._forms(connection, subject)
            of_subject = ended.where(is_one_of(_S.subject, forms))
            ids: list[UUID] = list((await connection.execute(of_subject)).scalars())
            if not ids:
                return SubjectData()
            of_sessions = sa.and_(_E.session_id.in_([str(each) for each in ids]), _HAS_SESSION)
            erased = await _erase(connection, of_sessions, limit)
            if erased < limit:
                await connection.execute(sa.delete(sessions).where(_S.id.in_(ids)))
            await self._record(connection, actor, erased)
            return SubjectData(sessions=len(ids) if erased < limit else 0, events=erased)

        return await self._database.write(work)

    async def erase_events(self, actor: Actor, subject: str, limit: int) -> int:
        """See `SubjectStore.erase_events`."""

        async def work(connection: AsyncConnection) -> int:
            erased = await _erase_events(connection, await self._forms(connection, subject), limit)
            await self._record(connection, actor, erased)
            return erased

        return await self._database.write(work)

    async def erase_device_requests(self, subject: str) -> int:
        """See `SubjectStore.erase_device_requests`."""
        found = [each.user_code_digest for each in await self._approved(subject)]
        if not found:
            return 0
        statement = sa.delete(device_requests).where(_R.user_code_digest.in_(found), _R.decision.is_not(None))

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._database.write(work)

    async def _forms(self, connection: AsyncConnection, subject: str) -> Sequence[str]:
        return (await self._personal.current(connection, shared=True)).forms(Kind.SUBJECT, subject)

    async def _record(self, connection: AsyncConnection, actor: Actor, erased: int) -> None:
        if erased:
            event = AuditEvent(
                action=Action.AUDIT_ERASED, actor=actor, target=Target("audit"), fields={"rows": erased}
            )
            await self._append_events(connection, [event])


async def _erase_events(connection: AsyncConnection, forms: Sequence[str], limit: int) -> int:
    after = ""
    while named := await _named(connection, forms, after, _PAGE):
        of_sessions = sa.and_(_E.session_id.in_(named), _HAS_SESSION, _E.subject.not_in(forms))
        if erased := await _erase(connection, of_sessions, limit):
            return erased
        after = named[-1]
    of_subject = sa.and_(is_one_of(_E.subject, forms), _HAS_SUBJECT)
    return await _erase(connection, of_subject, limit) or await _erase(
        connection, _on_behalf_of(forms), limit
    )


def _requests(rows: Sequence[sa.Row[Any]], keys: PersonalKeys) -> Sequence[DeviceRequest]:
    return [device_request_of(row, keys) for row in rows]


def _logouts(rows: Sequence[sa.Row[Any]], subject: str, keys: PersonalKeys) -> Sequence[PendingLogout]:
    return [
        PendingLogout(row.session_id, row.client_id, to_seconds(row.create_time))
        for row in rows
        if open_text(keys, Place.LOGOUT_SUBJECT, row.session_id.bytes, row.subject) == subject
    ]


def _on_behalf_of(forms: Sequence[str]) -> sa.ColumnElement[bool]:
    return sa.and_(is_one_of(_E.on_behalf_of, forms), _E.on_behalf_of != sa.literal_column("''"))


def _approver(request: DeviceRequest) -> str | None:
    approval = None if request.decision is None else request.decision.approval
    return None if approval is None else approval.subject


async def _named(
    connection: AsyncConnection, forms: Sequence[str], after: str, limit: int | None
) -> Sequence[str]:
    """Return the next ids of the sessions that the events of a subject name."""
    statement = (
        sa.select(_E.session_id)
        .where(is_one_of(_E.subject, forms), _HAS_SUBJECT, _HAS_SESSION, _E.session_id > after)
        .distinct()
        .order_by(_E.session_id)
        .limit(limit)
    )
    return list((await connection.execute(statement)).scalars())


async def _ids(
    connection: AsyncConnection, forms: Sequence[str], after: str, limit: int | None
) -> Sequence[str]:
    """Return the next ids of the sessions of the table and of the events of a subject, in the order of their text."""
    named = await _named(connection, forms, after, limit)
    stored = sa.select(_S.id).where(is_one_of(_S.subject, forms)).order_by(_S.id).limit(limit)
    if after:
        stored = stored.where(_S.id > UUID(after))
    found = {str(each) for each in (await connection.execute(stored)).scalars()}
    ids = sorted({*named, *found})
    return ids if limit is None else ids[:limit]


async def _erase(connection: AsyncConnection, where: sa.ColumnElement[bool], limit: int) -> int:
    """Erase the personal fields of up to `limit` rows; return how many."""
    keys = [
        tuple(row)
        for row in await connection.execute(
            sa.select(_E.chain_id, _E.position).where(where, _IS_KEPT).limit(limit)
        )
    ]
    keys.sort()  # of two erasures at once none waits for the other in a circle; sorting in SQL would read by the wrong index
    for start in range(0, len(keys), _UPDATE):
        await connection.execute(
            sa.update(audit_events)
            .where(_KEY.in_(keys[start : start + _UPDATE]))
            .values(salt=None, **dict.fromkeys(PERSONAL, ""))
        )
    return len(keys)
