"""Database URLs: which are understood, and how they look in a message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from token_service.errors import ConfigurationError

_POSTGRESQL: Final = frozenset(("postgresql", "postgres", "postgresql+asyncpg", "postgres+asyncpg"))
_SQLITE: Final = frozenset(("sqlite", "sqlite+aiosqlite"))
_ALLOWED: Final = "allowed are postgresql://user:password@host:port/database and sqlite:////absolute/path.db"

_SSL = re.compile(r"(?<=[?&])ssl=([^&]*)")
_QUERY_SECRET = re.compile(r"([?&](?:password|sslpassword|passfile)=)[^&#]*", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """Where the database is. Neither `str` nor `repr` shows a password."""

    text: str = field(repr=False)
    """As it was given, with its password."""
    redacted: str
    path: Path | None
    """The file of an SQLite database; None for PostgreSQL."""
    dsn: str = field(repr=False)
    """As the driver of PostgreSQL takes it, with its password; empty for SQLite."""

    @classmethod
    def parse(cls, text: str) -> DatabaseUrl:
        """Raises `ConfigurationError`, which shows no password either."""
        scheme, separator, rest = text.partition("://")
        if not separator or not (scheme in _POSTGRESQL or scheme in _SQLITE):
            # Not even redacted: whatever this is, its password may be anywhere.
            raise ConfigurationError(f"the database URL is not understood; {_ALLOWED}")
        if scheme in _POSTGRESQL:
            return cls(
                text, f"postgresql://{_redact(rest)}", None, f"postgresql://{_SSL.sub(_sslmode, rest)}"
            )
        location, _, query = rest.partition("?")
        path = unquote(location.removeprefix("/"))
        if not location.startswith("/") or not path or path == ":memory:" or query:
            raise ConfigurationError(
                "the database URL must name a file and nothing else: sqlite:////absolute/path.db or sqlite:///relative.db"
            )
        return cls(text, f"sqlite:///{path}", Path(path), "")

    def __str__(self) -> str:
        return self.redacted


def _redact(rest: str) -> str:
    # Up to the last @, for in a password that nobody encoded there may be anything; rather hide too much.
    head, at, tail = rest.rpartition("@")
    user, colon, _ = head.partition(":")
    return _QUERY_SECRET.sub(r"\1***", f"{user}{':***' if colon else ''}{at}{tail}")


def _sslmode(match: re.Match[str]) -> str:
    """What SQLAlchemy calls `ssl` under the name the driver knows it by."""
    return "sslmode=" + {"true": "require", "false": "disable"}.get(match[1].lower(), match[1])
