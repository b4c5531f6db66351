"""What the drivers raise, as what core may see. Nothing above knows `sqlalchemy`, `asyncpg` or `sqlite3`."""

from __future__ import annotations

import sqlite3
from enum import Enum
from typing import Final

from token_service.errors import StoreUnavailableError, TokenServiceError
from token_service.stores.sql.engine.sqlite_file import FileReplacedError

RETRY_AFTER: Final = 1.0
"""Seconds after which a caller may try again."""

_TRANSIENT_STATES: Final = frozenset(("40001", "40P01"))
"""Serialization failure, deadlock: the transaction was rolled back and may be repeated at once."""

_UNAVAILABLE_CLASSES: Final = frozenset(("08", "28", "3D", "53", "57", "58"))
"""Connection, authorization, no such database, resources, operator intervention (timeouts among them),
system.
"""

_UNAVAILABLE_STATES: Final = frozenset(("25P03", "55P03"))
"""A transaction idle for too long, a lock not had in time."""

_DISK_FULL: Final = "53100"

_READ_ONLY: Final = "25006"
"""The server is a standby, or was told to be read-only; another connection may lead to another one."""

_UNSENT: Final = ("cannot switch to state", "not connected")
"""How asyncpg's words begin when it sends nothing, because the server has said goodbye and not hung up yet."""

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
    """The database refused one statement for what it says: a defect here, or a value it can't hold.

    Trying again is no use.
    """


class UnusableServerError(Exception):
    """The server that a connection leads to is not the one to ask; the message says why."""


class Failure(Enum):
    """What an error of a driver means."""

    TRANSIENT = "transient"
    """Rolled back for the sake of others; repeat at once."""
    UNSENT = "unsent"
    """Nothing was done, for the connection had ended or its server can't write; repeat at once on another
    one.
    """
    UNAVAILABLE = "unavailable"
    """The database is away, too slow or out of something; the outcome is unknown."""
    REFUSED = "refused"
    """This statement with these values will never work."""


def classify(error: BaseException) -> Failure:
    """What an error of asyncpg, sqlite3, aiosqlite or SQLAlchemy means."""
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
        return Failure.REFUSED  # asyncpg's DataError among them: a value that can't be encoded
    if type(original).__name__ == "InternalClientError" and str(original).startswith(_UNSENT):
        return Failure.UNSENT
    return Failure.UNAVAILABLE  # OSError, TimeoutError, a closed connection, an exhausted pool


def is_login_refused(error: BaseException) -> bool:
    """Whether the server answered and did not let the service in: a matter of configuration rather than of
    time.
    """
    state = getattr(getattr(error, "orig", None) or error, "sqlstate", None)
    return isinstance(state, str) and state[:2] in {"28", "3D"}


def name_of(error: BaseException) -> str:
    """What kind of error it is, in the driver's words and without its message: that may hold values of a row."""
    if isinstance(error, FileReplacedError):
        return str(error)
    original = getattr(error, "orig", None) or error
    if isinstance(original, UnusableServerError):
        return str(original)
    kind = type(original.__cause__ or original).__name__
    code = getattr(original, "sqlstate", None) or getattr(original, "sqlite_errorname", None)
    return f"{kind} ({code})" if code else kind


def resource_trouble(error: BaseException | None) -> str | None:
    """What the database lacks for any write, and what to do; None: another error, or too many connections."""
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
    """The error of a call that may or may not have taken effect."""
    return StoreUnavailableError(retry_after=RETRY_AFTER)


def unavailable_because(cause: BaseException | None) -> StoreUnavailableError:
    """`unavailable`, with what is behind it for the log."""
    message = _REPLACED if isinstance(cause, FileReplacedError) else resource_trouble(cause)
    error = StoreUnavailableError(message, retry_after=RETRY_AFTER)
    error.__cause__ = cause
    return error


def translate(error: BaseException) -> TokenServiceError:
    """The error to raise from `error`."""
    if classify(error) is Failure.REFUSED:
        return StatementRefusedError(f"the database refused a statement: {name_of(error)}")
    return unavailable_because(error)
