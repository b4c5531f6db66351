"""The `DeviceRequests` on SQL."""

from __future__ import annotations

from typing import Final

import msgspec
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.core.grants.device_requests import Decision, DeviceRequest
from token_service.stores.sql.engine.database import Database
from token_service.stores.sql.expressions import insert
from token_service.stores.sql.micros import to_micros, to_seconds
from token_service.stores.sql.schema import device_requests

_R: Final = device_requests.c

_decision: Final = msgspec.json.Decoder(Decision).decode
_texts: Final = msgspec.json.Decoder(tuple[str, ...]).decode


class SqlDeviceRequests:
    """The requests of devices. See `core.grants.device_requests.DeviceRequests`."""

    def __init__(self, database: Database) -> None:
        self._database: Final = database

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

        async def select(connection: AsyncConnection) -> DeviceRequest | None:
            row = (await connection.execute(statement)).first()
            if row is None:
                return None
            return DeviceRequest(
                user_code_digest=row.user_code_digest,
                code_digest=row.code_digest,
                client_id=row.client_id,
                scopes=_texts(row.scopes),
                audience=_texts(row.audience),
                expire_time=to_seconds(row.expire_time),
                decision=None if row.decision is None else _decision(row.decision),
            )

        return await self._database.read(select)

    async def decide(self, user_code_digest: bytes, decision: Decision, now: float) -> bool:
        """See `DeviceRequests.decide`."""
        statement = (
            sa.update(device_requests)
            .where(
                _R.user_code_digest == user_code_digest,
                _R.decision.is_(None),
                _R.expire_time > to_micros(now),
            )
            .values(decision=_json(decision))
        )

        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(statement)).rowcount)

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


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()
