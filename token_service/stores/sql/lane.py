"""Statements prepared once and run in batches on a connection that is kept: what a hot path uses instead of SQLAlchemy's engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple, Protocol, TypeAlias, cast

import sqlalchemy as sa
from sqlalchemy.engine.default import DefaultDialect

ITEM: Final = "item"
"""The parameter that numbers the calls of a batch; a statement returns it as its last column."""


class Statement:
    """A SQLAlchemy construct, compiled once. It affects or finds one row at most and returns that row."""

    __slots__ = ("has_parameters", "names", "sql")

    def __init__(self, construct: sa.Executable, dialect: sa.Dialect) -> None:
        if dialect.name == "sqlite":
            # The engine's has positions, even for a parameter used twice.
            dialect = cast("type[DefaultDialect]", type(dialect))(paramstyle="named")
        compiled = construct.compile(dialect=dialect)  # type: ignore[attr-defined]
        self.sql: Final[str] = str(compiled)
        self.names: Final[tuple[str, ...]] = tuple(compiled.positiontup or compiled.params)
        """The parameters: in order where the database numbers them."""
        self.has_parameters: Final = bool(self.names)
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


class Lane(Protocol):
    """Runs batches one after the other. Used by one task at a time."""

    async def run(self, calls: Sequence[Call]) -> Sequence[Outcome]:
        """Run all calls and commit; the outcomes are in the order of the calls. One that is refused does not affect the others."""
        ...

    async def aclose(self) -> None:
        """Close the connection."""
        ...
