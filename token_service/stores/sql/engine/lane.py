"""Lanes: batches of prepared statements on a permanent connection, for hot paths instead of SQLAlchemy's engine."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

from token_service.errors import StoreUnavailableError
from token_service.stores.sql.engine.errors import name_of, unavailable_because

_log: Final = logging.getLogger(__name__)

ITEM: Final = "item"
"""The parameter that numbers the calls of a batch. A statement returns it as its last column."""


EVIDENCE: Final = "evidence"
"""The label of the column that tells whether the responding server can write."""


class Statement:
    """A SQLAlchemy construct, compiled once. It affects or finds at most one row and returns that row.

    A statement without parameters may have a column named `EVIDENCE`. If the column is false, the row is not returned
    and the connection is not used again.
    """

    __slots__ = ("evidence", "has_parameters", "name", "names", "sql")

    def __init__(self, name: str, construct: sa.Executable, dialect: sa.Dialect) -> None:
        """Compile the construct. `name` names it in traces."""
        self.name: Final = name
        if dialect.name == "sqlite":
            # The dialect of the engine uses positions, even for a parameter used twice.
            dialect = cast("type[DefaultDialect]", type(dialect))(paramstyle="named")
        compiled = construct.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql: Final[str] = str(compiled)
        self.names: Final[tuple[str, ...]] = tuple(compiled.positiontup or compiled.params)
        """The parameters, in order if the database numbers them."""
        self.has_parameters: Final = bool(self.names)
        columns = [column.key for column in getattr(construct, "selected_columns", ())]
        self.evidence: Final = columns.index(EVIDENCE) if EVIDENCE in columns else None
        """The index of the `EVIDENCE` column; None without one."""
        unset = [name for name, value in compiled.params.items() if value is not None]
        assert not unset, f"constants belong into the text of a statement: {unset}"


class Call(NamedTuple):
    """One execution of a statement."""

    statement: Statement
    parameters: Mapping[str, Any]
    order: bytes = b""
    """The key of the row that the call locks. Batches are sorted by it, so two batches never wait for each other."""


Row: TypeAlias = Sequence[Any]
Outcome: TypeAlias = Row | Exception | None
"""The row, None without a row, or the error: `StoreUnavailableError` or `StatementRefusedError`."""


class Contact:
    """Logs once that the database is unavailable and once that it is available again, for any number of calls."""

    def __init__(self) -> None:
        self._lost = False

    def lost(self, error: BaseException) -> None:
        """Note that a batch failed because the database is unavailable."""
        if not self._lost:
            _log.warning("the database is unavailable: %s", name_of(error))
        self._lost = True

    def found(self) -> None:
        """Note that a batch was committed."""
        if self._lost:
            _log.warning("the database is available again")
        self._lost = False


def each_its_own(outcome: Outcome, count: int) -> list[Outcome]:
    """Return one outcome for several calls. Each call raises its error, so each gets its own instance."""
    if isinstance(outcome, StoreUnavailableError):
        return [unavailable_because(outcome.__cause__) for _ in range(count)]
    return [outcome] * count


class Lane(Protocol):
    """Runs batches one after the other. Only one task may use it at once."""

    async def run(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        """Run all calls and commit. Return the outcomes in the order of the calls.

        A refused call does not affect the others.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
