"""The `DeviceRequests` on SQL."""

from __future__ import annotations

from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.grants.device_requests import Decision, DeviceRequest
from token_service.core.personal_data.cipher import Place
from token_service.core.personal_data.keys import PersonalKeys
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.personal_data import PersonalData
from token_service.stores.sql.personal_rows import open_text, sealed_text
from token_service.stores.sql.schema import device_requests

_R: Final = device_requests.c

_decision: Final = msgspec.json.Decoder(Decision).decode
_texts: Final = msgspec.json.Decoder(tuple[str, ...]).decode


class SqlDeviceRequests:
    """The requests of devices. See `core.oauth.grants.device_requests.DeviceRequests`."""

    def __init__(self, database: Database, personal: PersonalData) -> None:
        self._database: Final = database
        self._personal: Final = personal

    async def add(self, request: DeviceRequest) -> bool:
        """See `DeviceRequests.add`."""
        statement = insert(device_requests, self._database.dialect).values(
            user_code_digest=request.user_code_digest,
            code_digest=request.code_digest,
            client_id=request.client_id,
            scopes=_json(request.scopes),
            audience=_json(request.audience),
            expire_time=to_micros(request.expire_time),
        )
        statement = statement.on_conflict_do_nothing(index_elements=[_R.user_code_digest])

        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(statement)).rowcount)

        return await self._database.write(work)

    async def find(self, user_code_digest: bytes) -> DeviceRequest | None:
        """See `DeviceRequests.find`."""
        statement = sa.select(*_R).where(_R.user_code_digest == user_code_digest)

        async def select(connection: AsyncConnection) -> sa.Row[Any] | None:
            return (await connection.execute(statement)).first()

        row = await self._database.read(select)
        return None if row is None else await self._personal.opened(lambda keys: device_request_of(row, keys))

    async def decide(self, user_code_digest: bytes, decision: Decision, now: float) -> bool:
        """See `DeviceRequests.decide`."""
        statement = sa.update(device_requests).where(
            _R.user_code_digest == user_code_digest,
            _R.decision.is_(None),
            _R.expire_time > to_micros(now),
        )

        async def work(connection: AsyncConnection) -> bool:
            keys = await self._personal.current(connection, shared=True)
            text = sealed_text(keys, Place.DEVICE_DECISION, user_code_digest, _json(decision))
            return bool((await connection.execute(statement.values(decision=text))).rowcount)

        return await self._database.write(work)

    async def remove(self, request: DeviceRequest) -> None:
        """See `DeviceRequests.remove`."""
        statement = sa.delete(device_requests).where(
            _R.user_code_digest == request.user_code_digest, _R.code_digest == request.code_digest
        )

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)

        await self._database.write(work)

    async def purge(self, before: float, limit: int) -> int:
        """See `DeviceRequests.purge`."""
        oldest = (
            sa.select(_R.user_code_digest)
            .where(_R.expire_time < to_micros(before))
            .order_by(_R.expire_time)
            .limit(limit)
        )
        statement = sa.delete(device_requests).where(_R.user_code_digest.in_(oldest))

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(statement)).rowcount

        return await self._database.write(work)


def device_request_of(row: sa.Row[Any], keys: PersonalKeys) -> DeviceRequest:
    """Return the request of a row. Raises `UnknownDataKeyError` and `DamagedPersonalDataError`."""
    decision = None
    if row.decision is not None:
        decision = _decision(open_text(keys, Place.DEVICE_DECISION, row.user_code_digest, row.decision))
    return DeviceRequest(
        user_code_digest=row.user_code_digest,
        code_digest=row.code_digest,
        client_id=row.client_id,
        scopes=_texts(row.scopes),
        audience=_texts(row.audience),
        expire_time=to_seconds(row.expire_time),
        decision=decision,
    )


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
