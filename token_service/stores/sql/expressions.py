"""SQL expressions that the databases spell differently."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.expression import ColumnElement
from sqlalchemy.sql.functions import FunctionElement

IDENTITY_SETTING: Final = "log.server"
"""The setting of a PostgreSQL session that holds the identity of its server."""


class least(FunctionElement[int]):  # noqa: N801 - named like the SQL function
    """The smallest of its arguments. None of them may be null, because the databases treat nulls differently."""

    type = sa.BigInteger()
    name = "least"
    inherit_cache = True


class greatest(FunctionElement[int]):  # noqa: N801 - named like the SQL function
    """The greatest of its arguments. None of them may be null."""

    type = sa.BigInteger()
    name = "greatest"
    inherit_cache = True


class database_now(FunctionElement[int]):  # noqa: N801 - named like a SQL function
    """The clock of the database in microseconds. It also moves within a transaction."""

    type = sa.BigInteger()
    name = "database_now"
    inherit_cache = True


class authoritative(FunctionElement[bool]):  # noqa: N801 - named like a SQL function
    """Whether the server has all acknowledged writes: it is no standby, is not read-only, and its writes are acknowledged.

    With a synchronous standby the statement writes an empty message to the write-ahead log, so that its commit waits
    for the standby. A primary that does not know of the promotion of its standby still takes writes, but there this
    statement never returns.
    """

    type = sa.Boolean()
    name = "authoritative"
    inherit_cache = True


class server_identity(FunctionElement[str]):  # noqa: N801 - named like a SQL function
    """The identity of the database cluster and its timeline; null if it is unknown.

    A promoted standby and a copy of the cluster have different identities.
    """

    type = sa.Text()
    name = "server_identity"
    inherit_cache = True


class replicated(FunctionElement[bool]):  # noqa: N801 - named like a SQL function
    """Whether a commit of the transaction is on a synchronous standby before it is acknowledged."""

    type = sa.Boolean()
    name = "replicated"
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


@compiles(authoritative)
def _authoritative(element: authoritative, compiler: SQLCompiler, **options: Any) -> str:
    return (
        "(CASE WHEN current_setting('transaction_read_only') = 'on' THEN false"  # it is also on in recovery
        " WHEN current_setting('synchronous_standby_names') <> ''"
        " AND current_setting('synchronous_commit') NOT IN ('off', 'local')"
        " THEN pg_logical_emit_message(true, 'token-service', '') IS NOT NULL"
        " ELSE true END)"
    )


@compiles(server_identity)
def _identity(element: server_identity, compiler: SQLCompiler, **options: Any) -> str:
    return f"nullif(current_setting('{IDENTITY_SETTING}', true), '')"


@compiles(replicated)
def _replicated(element: replicated, compiler: SQLCompiler, **options: Any) -> str:
    return (
        "(current_setting('synchronous_standby_names') <> '' "
        "AND current_setting('synchronous_commit') IN ('on', 'remote_apply'))"
    )


@compiles(authoritative, "sqlite")
def _always(element: authoritative, compiler: SQLCompiler, **options: Any) -> str:
    return "1"


@compiles(server_identity, "sqlite")
@compiles(replicated, "sqlite")
def _not_known(element: FunctionElement[Any], compiler: SQLCompiler, **options: Any) -> str:
    return "NULL"


@compiles(database_now)
def _now(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    return "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)"


@compiles(database_now, "sqlite")
def _now_on_sqlite(element: database_now, compiler: SQLCompiler, **options: Any) -> str:
    # unixepoch('subsec') needs SQLite 3.42, which is newer than the SQLite of many Pythons.
    return "CAST(round((julianday('now') - 2440587.5) * 86400000000.0) AS INTEGER)"


def number(value: int) -> ColumnElement[int]:
    """Return a constant in the text of a statement, which is not a parameter."""
    return sa.literal_column(str(int(value)), sa.BigInteger())


def insert(table: sa.Table, dialect: sa.Dialect) -> Any:
    """Return an INSERT with `on_conflict_do_nothing` and `on_conflict_do_update`, which both databases support."""
    if dialect.name == "sqlite":
        from sqlalchemy.dialects import sqlite

        return sqlite.insert(table)
    from sqlalchemy.dialects import postgresql

    return postgresql.insert(table)


def is_one_of(column: sa.Column[Any], values: Sequence[str]) -> sa.ColumnElement[bool]:
    """Return the condition that a column holds one of some values.

    With one value it is an equation, so that an index returns the rows in its order.
    """
    return column == values[0] if len(values) == 1 else column.in_(values)
