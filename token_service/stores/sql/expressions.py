"""SQL expressions that the databases spell differently."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement


class least(FunctionElement[int]):  # noqa: N801 - named like the SQL function
    """The smallest of its arguments, none of which may be null: with nulls the databases disagree."""

    type = sa.BigInteger()
    name = "least"
    inherit_cache = True


class greatest(FunctionElement[int]):  # noqa: N801 - named like the SQL function
    """The greatest of its arguments, none of which may be null."""

    type = sa.BigInteger()
    name = "greatest"
    inherit_cache = True


class database_now(FunctionElement[int]):  # noqa: N801 - named like a SQL function
    """The database's own clock in microseconds, moving within a transaction."""

    type = sa.BigInteger()
    name = "database_now"
    inherit_cache = True


@compiles(least, "sqlite")
def _least(element: least, compiler: SQLCompiler, **options: Any) -> str:
    return f"min({compiler.process(element.clauses, **options)})"


@compiles(greatest, "sqlite")
def _greatest(element: greatest, compiler: SQLCompiler, **options: Any) -> str:
    return f"max({compiler.process(element.clauses, **options)})"


@compiles(least)
@compiles(greatest)
def _as_named(element: least | greatest, compiler: SQLCompiler, **options: Any) -> str:
    return f"{element.name}({compiler.process(element.clauses, **options)})"


@compiles(database_now)
def _now(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


@compiles(database_now, "sqlite")
def _now_on_sqlite(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    # unixepoch('subsec') would say the same, but is younger (3.42) than the SQLite of many Pythons.
    return "CAST(round((julianday('now') - 2440587.5) * 86400000000.0) AS INTEGER)"


def number(value: int) -> ColumnElement[int]:
    """A constant in the text of a statement rather than a parameter."""
    return sa.literal_column(str(int(value)), sa.BigInteger())


def insert(table: sa.Table, dialect: sa.Dialect) -> Any:
    """An INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases have under
    one syntax.
    """
    if dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)
