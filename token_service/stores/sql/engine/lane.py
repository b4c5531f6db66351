"""Statements prepared once and run in batches on a connection that is kept: what a hot path uses instead of
SQLAlchemy's engine.
"""

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
"""The parameter that numbers the calls of a batch; a statement returns it as its last column."""


EVIDENCE: Final = "evidence"
"""Label of the column that says whether the server that answers can write."""


class Statement:
    """A SQLAlchemy construct, compiled once. It affects or finds one row at most and returns that row.

    Without parameters it may have a column named `EVIDENCE`: where that is false, the row is not returned,
    and the connection not used again.
    """

    __slots__ = ("evidence", "has_parameters", "names", "sql")

    def __init__(self, construct: sa.Executable, dialect: sa.Dialect) -> None:
        if dialect.name == "sqlite":
            # The engine's has positions, even for a parameter used twice.
            dialect = cast("type[DefaultDialect]", type(dialect))(paramstyle="named")
        compiled = construct.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql: Final[str] = str(compiled)
        self.names: Final[tuple[str, ...]] = tuple(compiled.positiontup or compiled.params)
        """The parameters: in order where the database numbers them."""
        self.has_parameters: Final = bool(self.names)
        columns = [column.key for column in getattr(construct, "selected_columns", ())]
        self.evidence: Final = columns.index(EVIDENCE) if EVIDENCE in columns else None
        """The column that says whether the server can prove anything."""
        unset = [name for name, value in compiled.params.items() if value is not None]
        assert not unset, f"constants belong into the text of a statement: {unset}"


class Call(NamedTuple):
    """One execution of a statement."""

    statement: Statement
    parameters: Mapping[str, Any]
    order: bytes = b""
    """What it locks: batches are sorted by it, so that two of them never wait for each other."""


Row: TypeAlias = Sequence[Any]
Outcome: TypeAlias = Row | Exception | None
"""The row; None if there is none; or why it failed: `StoreUnavailableError` or `StatementRefusedError`."""


class Contact:
    """Says once in the log that the database is away, and once that it is back, however many calls find out."""

    def __init__(self) -> None:
        self._lost = False

    def lost(self, error: BaseException) -> None:
        """A batch failed for want of the database."""
        if not self._lost:
            _log.warning("the database is unavailable: %s", name_of(error))
        self._lost = True

    def found(self) -> None:
        """A batch was committed."""
        if self._lost:
            _log.warning("the database is available again")
        self._lost = False


def each_its_own(outcome: Outcome, count: int) -> list[Outcome]:
    """One outcome for several calls. An error is raised by each of them, so each gets an instance."""
    if isinstance(outcome, StoreUnavailableError):
        return [unavailable_because(outcome.__cause__) for _ in range(count)]
    return [outcome] * count


class Lane(Protocol):
    """Runs batches one after the other. Used by one task at a time."""

    async def run(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        """Run all calls and commit; the outcomes are in the order of the calls.

        One that is refused does not affect the others.
        """
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
