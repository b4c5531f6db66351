"""Statements that are compiled once, for frequent transactions of `Database.write`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Final, cast

import sqlalchemy as sa
from sqlalchemy.ext.asyncio import AsyncConnection


class Prepared:
    """A SQLAlchemy construct, compiled once, that changes rows and returns none.

    An append of 8 revocations through SQLAlchemy's own compiler takes twice the processor time (2.9 instead of 1.5 ms),
    and on SQLite each statement switches to the thread of the connection once more.
    """

    def __init__(self, construct: sa.Executable, dialect: sa.Dialect) -> None:
        """Every value of the construct must be a parameter or a part of its text, and it has at least two parameters."""
        compiled = construct.compile(dialect=dialect)  # type: ignore[attr-defined]
        unset = [name for name, value in compiled.params.items() if value is not None]
        assert not unset, f"constants belong into the text of a statement: {unset}"
        self.sql: Final[str] = str(compiled)
        self.names: Final[tuple[str, ...]] = tuple(compiled.positiontup)
        """The parameters in their order."""
        self._values: Final = itemgetter(*self.names)
        self._on_sqlite: Final = dialect.name == "sqlite"

    async def run(self, connection: AsyncConnection, parameters: Iterable[Mapping[str, Any]]) -> int:
        """Execute the statement once for each mapping. See `run_in_order`."""
        return await self.run_in_order(connection, [self._values(values) for values in parameters])

    async def run_in_order(self, connection: AsyncConnection, parameters: Sequence[tuple[Any, ...]]) -> int:
        """Execute the statement once for each tuple with the values of `names`, in the transaction of a connection.

        Returns the number of changed rows if there is one tuple.
        """
        if self._on_sqlite:
            driver: Any = (await connection.get_raw_connection()).driver_connection
            async with driver.executemany(self.sql, parameters) as cursor:
                return cast("int", cursor.rowcount)
        return (await connection.exec_driver_sql(self.sql, list(parameters))).rowcount
