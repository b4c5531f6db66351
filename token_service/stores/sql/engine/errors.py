"""The translation of driver errors. Packages above this one know no `sqlalchemy`, `asyncpg` or `sqlite3`."""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import Final

from token_service.errors import StoreUnavailableError, TokenServiceError
from token_service.stores.sql.engine.sqlite_file import FileReplacedError

RETRY_AFTER: Final = 1.0
"""Seconds after which a caller may retry."""

_TRANSIENT_STATES: Final = frozenset(("40001", "40P01"))
"""Serialization failure, deadlock: the transaction was rolled back and may be repeated at once."""

_UNAVAILABLE_CLASSES: Final = frozenset(("08", "28", "3D", "53", "57", "58"))
"""Connection, authorization, unknown database, resources, operator intervention (including timeouts), system."""

_UNAVAILABLE_STATES: Final = frozenset(("25P03", "55P03"))
"""A transaction that was idle too long, a lock not acquired in time."""

_DISK_FULL: Final = "53100"

_READ_ONLY: Final = "25006"
"""The server is a standby or configured as read-only. A new connection may lead to another server."""

_UNSENT: Final = ("cannot switch to state", "not connected")
"""The beginning of the message when asyncpg sends nothing, because the server has begun to close the connection."""

_REPLACED: Final = "a file of the database was deleted or replaced while this node runs: restart the node"
_SQLITE_BUSY: Final = sqlite3.SQLITE_BUSY
_SQLITE_UNAVAILABLE: Final = frozenset(
    (
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_CORRUPT,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_INTERRUPT,
        sqlite3.SQLITE_IOERR,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_NOTADB,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_PROTOCOL,
        sqlite3.SQLITE_READONLY,
    )
)


class StatementRefusedError(TokenServiceError):
    """The database refused a statement because of its text or its values.

    The cause is a defect of the token service or a value that the database can't store. A retry can't succeed.
    """


class UnusableServerError(Exception):
    """The server of a connection must not be used. The message names the reason."""


class Failure(Enum):
    """The meaning of a driver error."""

    TRANSIENT = "transient"
    """The transaction was rolled back because of a conflict; it may be repeated at once."""
    UNSENT = "unsent"
    """Nothing was done: the connection had ended, or its server can't write. Repeat at once on a new connection."""
    UNAVAILABLE = "unavailable"
    """The database is unreachable, too slow or out of resources. The outcome is unknown."""
    REFUSED = "refused"
    """The statement with these values can never succeed."""


def classify(error: BaseException) -> Failure:
    """Return the meaning of an error of asyncpg, sqlite3, aiosqlite or SQLAlchemy."""
    original = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None)
    if isinstance(state, str):
        if state in _TRANSIENT_STATES:
            return Failure.TRANSIENT
        if state == _READ_ONLY:
            return Failure.UNSENT
        if state[:2] in _UNAVAILABLE_CLASSES or state in _UNAVAILABLE_STATES:
            return Failure.UNAVAILABLE
        return Failure.REFUSED
    if isinstance(original, sqlite3.Error):
        # Without a code the error comes from Python's wrapper: a closed connection, or a value it can't bind.
        code = getattr(original, "sqlite_errorcode", None)
        if code is None:
            return Failure.UNAVAILABLE if "closed" in str(original) else Failure.REFUSED
        primary = code & 0xFF
        if primary == _SQLITE_BUSY:
            return Failure.TRANSIENT
        return Failure.UNAVAILABLE if primary in _SQLITE_UNAVAILABLE else Failure.REFUSED
    if isinstance(original, ValueError | TypeError | OverflowError):
        return Failure.REFUSED  # including asyncpg's DataError: a value that can't be encoded
    if type(original).__name__ == "InternalClientError" and str(original).startswith(_UNSENT):
        return Failure.UNSENT
    return Failure.UNAVAILABLE  # OSError, TimeoutError, a closed connection, an exhausted pool


def is_login_refused(error: BaseException) -> bool:
    """Return whether the server refused the login, which is an error of the configuration and not temporary."""
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return isinstance(state, str) and state[:2] in {"28", "3D"}


def name_of(error: BaseException) -> str:
    """Return the type and code of a driver error, without its message, which may contain values of a row."""
    if isinstance(error, FileReplacedError):
        return str(error)
    original = getattr(error, "orig", None) or error
    if isinstance(original, UnusableServerError):
        return str(original)
    kind = type(original.__cause__ or original).__name__
    code = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
    return f"{kind} ({code})" if code else kind


def resource_trouble(error: BaseException | None) -> str | None:
    """Return the resource that all writes lack and the remedy, or None for other errors and too many connections."""
    if error is None:
        return None
    original = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None) or ""
    code = (getattr(original, "sqlite_errorcode", None) or 0) & 0xFF
    if state == _DISK_FULL or code == sqlite3.SQLITE_FULL:
        return "the database has no space left: free some on its disk"
    if state == "58030" or code in {sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}:
        return f"the database can't write its files ({name_of(original)}): look at its disk and their owner"
    if state.startswith("53") and state != "53300":
        return f"the database is out of resources ({name_of(original)}): look at its memory and limits"
    return None


def unavailable() -> StoreUnavailableError:
    """Return the error of a call that may or may not have taken effect."""
    return StoreUnavailableError(retry_after=RETRY_AFTER)


def unavailable_because(cause: BaseException | None) -> StoreUnavailableError:
    """Return the error of `unavailable`, with its cause for the log."""
    message = _REPLACED if isinstance(cause, FileReplacedError) else resource_trouble(cause)
    error = StoreUnavailableError(message, retry_after=RETRY_AFTER)
    error.__cause__ = cause
    return error


def translate(error: BaseException) -> TokenServiceError:
    """Return the error of the token service to raise from a driver error."""
    if classify(error) is Failure.REFUSED:
        return StatementRefusedError(f"the database refused a statement: {name_of(error)}")
    return unavailable_because(error)
