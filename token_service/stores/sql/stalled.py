"""Ends the transactions of processes that were stopped within a statement, so that their locks are released.

The driver sends a new statement in two parts. PostgreSQL counts a connection between them as active, but cancels
nothing while it waits for its client: neither `statement_timeout` nor `idle_in_transaction_session_timeout` ends a
transaction whose process is stopped there (SIGSTOP, a frozen container). Other nodes would wait for its locks without end.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Final

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection

from token_service.errors import TokenServiceError
from token_service.stores.sql.engine.database import Database

_INTERVAL: Final = 5.0
AGE: Final = 10.0
"""Seconds after which a connection counts as stopped: twice the time after which a process that runs would have given up."""
_END: Final = sa.text(
    """SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
    WHERE usename = current_user AND datname = current_database() AND application_name = :name
    AND state = 'active' AND wait_event = 'ClientRead' AND state_change < clock_timestamp() - :age * interval '1 second'"""
)

logger = logging.getLogger(__name__)


class StalledTransactions:
    """The transactions of stopped processes on PostgreSQL. SQLite releases the locks of a process only at its end."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def run(self) -> None:
        """End stalled transactions every few seconds until cancelled."""
        while self._database.url.path is None:
            await asyncio.sleep(_INTERVAL)
            try:
                ended = await self.end()
            except TokenServiceError:
                continue  # the calls that need the database tell of it
            if ended:
                logger.warning(
                    "ended %d transactions of processes that were stopped within a statement", ended
                )

    async def end(self, age: float = AGE) -> int:
        """End the transactions that have waited for the next part of a statement for `age` seconds.

        Returns their number. Raises `StoreUnavailableError`.
        """
        from token_service.stores.sql.engine.servers import SETTINGS

        name = SETTINGS["application_name"]

        async def end_stalled(connection: AsyncConnection) -> int:
            ended: int = (await connection.execute(_END, {"name": name, "age": age})).scalar_one()
            return ended

        return await self._database.read(end_stalled)
