"""The `WebhookStore` on SQL."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.events.event import AuditEvent
from token_service.core.events.webhooks.webhook import (
    DeadLetter,
    DeliveryState,
    SealedSecret,
    Webhook,
    WebhookEntry,
    consumer_of,
)
from token_service.stores.sql.audit_chain import AppendEvents
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import database_now, insert, number
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.rows import DAMAGED
from token_service.stores.sql.schema import (
    event_consumers,
    event_head,
    webhook_dead_letters,
    webhooks,
)

_W: Final = webhooks.c
_L: Final = webhook_dead_letters.c
_LOCKED_HEAD: Final = sa.select(event_head.c.sequence).where(event_head.c.id == number(1)).with_for_update()
_ENTRIES: Final = (
    sa.select(
        webhooks,
        event_consumers.c.sequence.label("place"),
        sa.select(sa.func.count())
        .select_from(webhook_dead_letters)
        .where(_L.webhook_id == _W.webhook_id)
        .scalar_subquery()
        .label("dead_letters"),
    )
    .select_from(
        webhooks.join(event_consumers, event_consumers.c.name == sa.literal("webhook:").concat(_W.webhook_id))
    )
    .order_by(_W.create_time, _W.webhook_id)
)
_FRESH: Final = {"sequence": 0, "attempts": 0, "due_time": 0, "failing_since": None, "last_error": ""}

_encode: Final = msgspec.json.Encoder().encode
_names: Final = msgspec.json.Decoder(tuple[str, ...]).decode
_damaged: Final[set[tuple[str, int]]] = set()
"""The damaged rows that the log has named, by id and revision: they are read every two seconds."""

logger = logging.getLogger(__name__)


class SqlWebhookStore:
    """The webhooks. See `core.events.webhooks.store.WebhookStore`."""

    def __init__(self, database: Database, append_events: AppendEvents) -> None:
        self._database: Final = database
        self._append_events: Final = append_events

    async def create(
        self, webhook: Webhook, limit: int, events: Sequence[AuditEvent] = ()
    ) -> WebhookEntry | None:
        """See `WebhookStore.create`."""

        async def work(connection: AsyncConnection) -> WebhookEntry | None:
            # The lock makes the limit and the place exact.
            head = (await connection.execute(_LOCKED_HEAD)).scalar_one()
            count = (await connection.execute(sa.select(sa.func.count()).select_from(webhooks))).scalar_one()
            if count >= limit:
                return None
            row = {"webhook_id": webhook.webhook_id, "revision": webhook.revision, **_FRESH}
            await connection.execute(sa.insert(webhooks).values(**row, **_values(webhook)))
            place = {"name": webhook.consumer, "sequence": head, "update_time": database_now()}
            await connection.execute(sa.insert(event_consumers).values(place))
            created = await _entry(connection, webhook.webhook_id)
            await self._append_events(connection, events)
            return created

        return await self._database.write(work)

    async def get(self, webhook_id: str) -> WebhookEntry | None:
        """See `WebhookStore.get`."""
        return await self._database.read(lambda connection: _entry(connection, webhook_id))

    async def list(self) -> Sequence[WebhookEntry]:
        """See `WebhookStore.list`."""

        async def select(connection: AsyncConnection) -> Sequence[WebhookEntry]:
            return [_entry_of(row) for row in await connection.execute(_ENTRIES)]

        return await self._database.read(select)

    async def save(
        self, webhook: Webhook, events: Sequence[AuditEvent] = (), *, reset: bool = False
    ) -> WebhookEntry | None:
        """See `WebhookStore.save`."""
        statement = (
            sa.update(webhooks)
            .where(_W.webhook_id == webhook.webhook_id, _W.revision == webhook.revision)
            .values(revision=webhook.revision + 1, **_values(webhook), **(_FRESH if reset else {}))
        )

        async def work(connection: AsyncConnection) -> WebhookEntry | None:
            if not (await connection.execute(statement)).rowcount:
                return None
            saved = await _entry(connection, webhook.webhook_id)
            await self._append_events(connection, events)
            return saved

        return await self._database.write(work)

    async def delete(self, webhook_id: str, revision: int, events: Sequence[AuditEvent] = ()) -> bool:
        """See `WebhookStore.delete`."""

        async def work(connection: AsyncConnection) -> bool:
            deleted = await connection.execute(
                sa.delete(webhooks).where(_W.webhook_id == webhook_id, _W.revision == revision)
            )
            if not deleted.rowcount:
                return False
            await connection.execute(sa.delete(webhook_dead_letters).where(_L.webhook_id == webhook_id))
            await connection.execute(
                sa.delete(event_consumers).where(event_consumers.c.name == consumer_of(webhook_id))
            )
            await self._append_events(connection, events)
            return True

        return await self._database.write(work)

    async def move(self, webhook_id: str, sequence: int, events: Sequence[AuditEvent] = ()) -> bool:
        """See `WebhookStore.move`."""
        statement = (
            sa.update(event_consumers)
            .where(event_consumers.c.name == consumer_of(webhook_id))
            .values(sequence=sequence, update_time=database_now())
        )

        async def work(connection: AsyncConnection) -> bool:
            if not (await connection.execute(statement)).rowcount:
                return False
            await self._append_events(connection, events)
            return True

        return await self._database.write(work)

    async def note(self, webhook_id: str, state: DeliveryState) -> None:
        """See `WebhookStore.note`."""
        await self._write(
            sa.update(webhooks)
            .where(_W.webhook_id == webhook_id)
            .values(
                sequence=state.sequence,
                attempts=state.attempts,
                due_time=to_micros(state.due_time),
                failing_since=to_micros(state.failing_since),
                last_error=state.last_error,
                last_success_time=to_micros(state.last_success_time),
            )
        )

    async def bury(self, letter: DeadLetter, keep: int) -> int:
        """See `WebhookStore.bury`."""
        values = {
            "chain_id": letter.chain_id,
            "position": letter.position,
            "type": letter.type,
            "attempts": letter.attempts,
            "last_error": letter.last_error,
            "create_time": to_micros(letter.create_time),
            "requested": letter.requested,
        }
        add = (
            insert(webhook_dead_letters, self._database.dialect)
            .values(webhook_id=letter.webhook_id, sequence=letter.sequence, **values)
            .on_conflict_do_update(index_elements=[_L.webhook_id, _L.sequence], set_=values)
        )
        of_webhook = _L.webhook_id == letter.webhook_id
        oldest_kept = (
            sa.select(_L.sequence)
            .where(of_webhook)
            .order_by(_L.sequence.desc())
            .limit(1)
            .offset(keep - 1)
            .scalar_subquery()
        )
        drop = sa.delete(webhook_dead_letters).where(of_webhook, _L.sequence < oldest_kept)

        async def work(connection: AsyncConnection) -> int:
            await connection.execute(add)
            return (await connection.execute(drop)).rowcount

        return await self._database.write(work)

    async def letters(
        self, webhook_id: str, *, limit: int, after: int = 0, requested: bool = False
    ) -> Sequence[DeadLetter]:
        """See `WebhookStore.letters`."""
        statement = (
            sa.select(webhook_dead_letters)
            .where(_L.webhook_id == webhook_id, _L.sequence > after)
            .order_by(_L.sequence)
            .limit(limit)
        )
        if requested:
            statement = statement.where(_L.requested.is_(True))

        async def select(connection: AsyncConnection) -> Sequence[DeadLetter]:
            return [_letter_of(row) for row in await connection.execute(statement)]

        return await self._database.read(select)

    async def request(self, webhook_id: str, places: Sequence[tuple[str, int]]) -> int:
        """See `WebhookStore.request`."""
        statement = sa.update(webhook_dead_letters).where(_L.webhook_id == webhook_id).values(requested=True)
        if places:
            statement = statement.where(
                sa.or_(*(sa.and_(_L.chain_id == chain, _L.position == place) for chain, place in places))
            )
        return await self._write(statement)

    async def settle(self, letter: DeadLetter, error: str | None) -> None:
        """See `WebhookStore.settle`."""
        where = (_L.webhook_id == letter.webhook_id, _L.sequence == letter.sequence)
        if error is None:
            await self._write(sa.delete(webhook_dead_letters).where(*where))
            return
        await self._write(
            sa.update(webhook_dead_letters)
            .where(*where)
            .values(attempts=letter.attempts + 1, last_error=error, requested=False)
        )

    async def purge(self, before: float) -> int:
        """See `WebhookStore.purge`."""
        return await self._write(sa.delete(webhook_dead_letters).where(_L.create_time < to_micros(before)))

    async def _write(self, statement: sa.Update | sa.Delete) -> int:
        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._database.write(work)


async def _entry(connection: AsyncConnection, webhook_id: str) -> WebhookEntry | None:
    row = (await connection.execute(_ENTRIES.where(_W.webhook_id == webhook_id))).first()
    return None if row is None else _entry_of(row)


def _values(webhook: Webhook) -> dict[str, Any]:
    """Return the columns that a change sets."""
    *replaced, current = webhook.secrets
    previous = replaced[-1] if replaced else None
    return {
        "create_time": to_micros(webhook.create_time),
        "update_time": to_micros(webhook.update_time),
        "url": webhook.url,
        "description": webhook.description,
        "types": _encode(webhook.types).decode(),
        "categories": _encode(webhook.categories).decode(),
        "client_id": webhook.client_id,
        "disabled": webhook.disabled,
        "disable_reason": webhook.disable_reason,
        "secret": current.wrapped,
        "wrapping_key_id": current.wrapping_key_id,
        "previous_secret": None if previous is None else previous.wrapped,
        "previous_wrapping_key_id": None if previous is None else previous.wrapping_key_id,
        "previous_expire_time": None if previous is None else to_micros(previous.expire_time),
    }


def _filters(row: sa.Row[Any]) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """Return the types and categories of a row; None: it is damaged.

    One damaged row must neither stop the other webhooks nor send what its receiver is not to get.
    """
    try:
        return _names(row.types), _names(row.categories)
    except msgspec.MsgspecError:
        if (place := (row.webhook_id, row.revision)) not in _damaged:
            _damaged.add(place)
            logger.exception(
                "webhook %s is treated as disabled, because its row in the database can't be read: restore the row, or "
                "delete the webhook and create another one",
                row.webhook_id,
            )
        return None


def _entry_of(row: sa.Row[Any]) -> WebhookEntry:
    filters = _filters(row)
    types, categories = filters or ((), ())
    secrets = [SealedSecret(wrapped=row.secret, wrapping_key_id=row.wrapping_key_id)]
    if row.previous_secret is not None:
        secrets.insert(
            0,
            SealedSecret(
                wrapped=row.previous_secret,
                wrapping_key_id=row.previous_wrapping_key_id,
                expire_time=to_seconds(row.previous_expire_time),
            ),
        )
    webhook = Webhook(
        webhook_id=row.webhook_id,
        url=row.url,
        description=row.description,
        types=types,
        categories=categories,
        client_id=row.client_id,
        disabled=row.disabled or filters is None,
        disable_reason=DAMAGED if filters is None else row.disable_reason,
        secrets=tuple(secrets),
        create_time=row.create_time / 1_000_000,
        update_time=row.update_time / 1_000_000,
        revision=row.revision,
    )
    state = DeliveryState(
        sequence=row.sequence,
        attempts=row.attempts,
        due_time=row.due_time / 1_000_000,
        failing_since=to_seconds(row.failing_since),
        last_error=row.last_error,
        last_success_time=to_seconds(row.last_success_time),
    )
    return WebhookEntry(webhook=webhook, state=state, place=row.place, dead_letters=row.dead_letters)


def _letter_of(row: sa.Row[Any]) -> DeadLetter:
    return DeadLetter(**{**row._mapping, "create_time": row.create_time / 1_000_000})  # noqa: SLF001 - the public name
