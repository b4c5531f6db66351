"""The `ClientStore` on SQL."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Any, Final, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec import structs
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.clients.client import (
    METADATA_FIELDS,
    Client,
    ClientMetadata,
    ClientSecret,
    ClientState,
    metadata_of,
)
from token_service.core.clients.store import ClientPosition, StoredClients
from token_service.core.revocation.log import RevocationDraft
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert, number
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.schema import client_secrets, clients, log_head

T = TypeVar("T")

_PAGE: Final = 1000
"""Clients that are read at once. Decoding them takes about 10 ms, during which the node does nothing else."""
_C: Final = clients.c
_COLUMNS: Final = (_C.client_id, _C.state, _C.revision, _C.create_time, _C.update_time, _C.metadata)
_HEAD: Final = sa.select(log_head.c.client_revision).where(log_head.c.id == number(1))

_SHARED: Final = ("grant_types", "scopes", "audiences", "classification")
"""Settings that many clients have in common. One value for all of them saves a third of the memory."""

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(ClientMetadata).decode
logger = logging.getLogger(__name__)


class SqlClientStore:
    """The registered clients. See `core.clients.store.ClientStore`.

    A change locks the row of `log_head` first, as an append to the log does. So changes commit in the order of their
    revisions, and two transactions never wait for each other.
    """

    def __init__(self, database: Database) -> None:
        self._database: Final = database

    async def create(self, client: Client) -> Client | None:
        """See `ClientStore.create`."""

        async def work(connection: AsyncConnection) -> Client | None:
            saved = await _next(connection, client)
            statement = insert(clients, self._database.dialect).values(**_values(saved))
            if not (await connection.execute(statement.on_conflict_do_nothing())).rowcount:
                return None
            await self._keep_secrets(connection, saved)
            await _raise_revision(connection, saved.revision)
            return saved

        return await self._database.write(work)

    async def save(self, client: Client) -> Client | None:
        """See `ClientStore.save`."""

        async def work(connection: AsyncConnection) -> Client | None:
            saved = await _next(connection, client)
            updated = await connection.execute(
                sa.update(clients)
                .where(
                    _C.client_id == client.client_id,
                    _C.revision == client.revision,
                    _C.state != ClientState.DELETED.value,
                )
                .values(**_values(saved))
            )
            if not updated.rowcount:
                return None
            await self._keep_secrets(connection, saved)
            await _raise_revision(connection, saved.revision)
            return await _get(connection, client.client_id)

        return await self._database.write(work)

    async def note_use(self, client_id: str, secret_id: str, time: float) -> None:
        """See `ClientStore.note_use`."""
        moment = to_micros(time)
        last = client_secrets.c.last_use_time
        statement = (
            sa.update(client_secrets)
            .where(
                client_secrets.c.client_id == client_id,
                client_secrets.c.secret_id == secret_id,
                sa.or_(last.is_(None), last < moment),
            )
            .values(last_use_time=moment)
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.write(work)

    async def get(self, client_id: str) -> Client | None:
        """See `ClientStore.get`."""
        return await self._database.read(lambda connection: _get(connection, client_id), snapshot=True)

    async def list(self, limit: int, after: ClientPosition | None) -> Sequence[Client]:
        """See `ClientStore.list`."""
        place = sa.tuple_(_C.create_time, _C.client_id)
        statement = (
            sa.select(*_COLUMNS)
            .where(_C.state != ClientState.DELETED.value)
            .order_by(_C.create_time.desc(), _C.client_id.desc())
            .limit(limit)
        )
        if after is not None:
            position = sa.tuple_(
                sa.literal(to_micros(after.create_time), sa.BigInteger), sa.literal(after.client_id, sa.Text)
            )
            statement = statement.where(place < position)

        async def work(connection: AsyncConnection) -> Sequence[Client]:
            rows = (await connection.execute(statement)).all()
            return await _with_secrets(connection, rows, _of(row.client_id for row in rows))

        return await self._database.read(work, snapshot=True)

    async def load(self, after: int = -1) -> StoredClients:
        """See `ClientStore.load`."""

        async def work(connection: AsyncConnection) -> StoredClients:
            revision = (await connection.execute(_HEAD)).scalar_one()
            found: list[Client] = []
            place = sa.literal(after, sa.BigInteger)
            while place is not None:
                page = sa.select(*_COLUMNS).where(_C.revision > place).order_by(_C.revision).limit(_PAGE)
                rows = (await connection.execute(page)).all()
                if rows:
                    # The secrets of a page, by a join: as parameters the ids would be too many.
                    between = sa.and_(_C.revision >= rows[0].revision, _C.revision <= rows[-1].revision)
                    of_page = client_secrets.c.client_id.in_(sa.select(_C.client_id).where(between))
                    found += await _with_secrets(connection, rows, of_page)
                if len(rows) < _PAGE:
                    break
                place = sa.literal(rows[-1].revision, sa.BigInteger)
            return StoredClients(revision, found)

        return await self._database.read(work, snapshot=True)

    async def _keep_secrets(self, connection: AsyncConnection, client: Client) -> None:
        """Delete other secrets of a client, add new ones, and set the expiry of the others."""
        table, columns = client_secrets, client_secrets.c
        kept = [secret.secret_id for secret in client.secrets]
        await connection.execute(
            sa.delete(table).where(columns.client_id == client.client_id, columns.secret_id.not_in(kept))
        )
        if client.secrets:
            statement = insert(table, self._database.dialect)
            await connection.execute(
                statement.on_conflict_do_update(
                    index_elements=[columns.client_id, columns.secret_id],
                    set_={"expire_time": statement.excluded.expire_time},
                ),
                [_values_of_secret(client.client_id, secret) for secret in client.secrets],
            )


async def end_clients(
    connection: AsyncConnection, drafts: Sequence[RevocationDraft], revision: int
) -> tuple[int, set[int]]:
    """Disable and delete clients. Return how many, and the positions of the drafts that do not apply.

    The locked head, whose revision of the clients is `revision`, prevents other changes.
    """
    ended, refused = 0, set()
    for position, draft in enumerate(drafts):
        end = draft.client_end
        if end is None:
            continue
        condition = [_C.client_id == draft.value, _C.state != ClientState.DELETED.value]
        changes: dict[str, Any] = {
            "state": end.state.value,
            "revision": revision + ended + 1,
            "update_time": to_micros(draft.revoke_time),
        }
        if end.state is ClientState.DELETED:
            changes["metadata"] = "{}"
        else:
            condition.append(_C.state != end.state.value)
        if end.revision is not None:
            condition.append(_C.revision == end.revision)
        if not (await connection.execute(sa.update(clients).where(*condition).values(**changes))).rowcount:
            refused.add(position)
            continue
        ended += 1
        if end.state is ClientState.DELETED:
            of_client = client_secrets.c.client_id == draft.value
            await connection.execute(sa.delete(client_secrets).where(of_client))
    return ended, refused


async def _next(connection: AsyncConnection, client: Client) -> Client:
    """Lock the head, and return the client with the next revision."""
    revision = (await connection.execute(_HEAD.with_for_update())).scalar_one()
    return structs.replace(client, revision=revision + 1)


async def _raise_revision(connection: AsyncConnection, revision: int) -> None:
    await connection.execute(sa.update(log_head).values(client_revision=revision))


async def _get(connection: AsyncConnection, client_id: str) -> Client | None:
    rows = (await connection.execute(sa.select(*_COLUMNS).where(_C.client_id == client_id))).all()
    found = await _with_secrets(connection, rows, _of([client_id]))
    return found[0] if found else None


def _of(client_ids: Iterable[str]) -> sa.ColumnElement[bool]:
    return client_secrets.c.client_id.in_(list(client_ids))


async def _with_secrets(
    connection: AsyncConnection, rows: Sequence[Sequence[Any]], condition: sa.ColumnElement[bool]
) -> list[Client]:
    """Return the clients of rows, with the secrets that meet a condition."""
    if not rows:
        return []
    secrets: dict[str, tuple[ClientSecret, ...]] = {}
    statement = sa.select(client_secrets).where(condition)
    ordered = statement.order_by(client_secrets.c.create_time, client_secrets.c.secret_id)
    for row in await connection.execute(ordered):
        secrets[row.client_id] = (*secrets.get(row.client_id, ()), _secret(row))
    return [_client(row, secrets.get(row[0], ())) for row in rows]


def _client(row: Sequence[Any], secrets: tuple[ClientSecret, ...]) -> Client:
    client_id, state, revision, create_time, update_time, metadata = row
    try:
        known, settings = ClientState(state), _decode(metadata)
    except (ValueError, TypeError, msgspec.MsgspecError):
        # One damaged row must neither stop the others nor let its client in.
        logger.exception(
            "client %s is treated as disabled, because its row in the database can't be read: restore the row, or "
            "delete the client and register another one",
            client_id,
        )
        known, settings = ClientState.DISABLED, ClientMetadata()
    values = {name: getattr(settings, name) for name in METADATA_FIELDS}
    for name in _SHARED:
        values[name] = _shared(values[name])
    return Client(
        **values,
        client_id=client_id,
        secrets=secrets,
        state=known,
        create_time=create_time / 1_000_000,
        update_time=update_time / 1_000_000,
        revision=revision,
    )


@lru_cache(4096)
def _shared(value: T) -> T:
    """Return the first of all equal values."""
    return value


def _secret(row: sa.Row[Any]) -> ClientSecret:
    return ClientSecret(
        secret_id=row.secret_id,
        hash=row.hash,
        create_time=row.create_time / 1_000_000,
        expire_time=to_seconds(row.expire_time),
        last_use_time=to_seconds(row.last_use_time),
    )


def _values(client: Client) -> dict[str, Any]:
    return {
        "client_id": client.client_id,
        "state": client.state.value,
        "revision": client.revision,
        "create_time": to_micros(client.create_time),
        "update_time": to_micros(client.update_time),
        "metadata": _encode(metadata_of(client)).decode(),
    }


def _values_of_secret(client_id: str, secret: ClientSecret) -> dict[str, Any]:
    return {
        "client_id": client_id,
        "secret_id": secret.secret_id,
        "hash": secret.hash,
        "create_time": to_micros(secret.create_time),
        "expire_time": to_micros(secret.expire_time),
        "last_use_time": to_micros(secret.last_use_time),
    }
