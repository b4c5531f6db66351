"""URLs that may contain a password: parsing, and redaction for display."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, quote, unquote, unquote_to_bytes, urlsplit


class UnusableValueError(ValueError):
    """A value can't be used.

    The message never repeats a part of the value, unlike the messages of the standard library.
    """


class Url:
    """A URL whose `str` and `repr` hide its password. Read it with `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """Return the full URL, with its password. Never log the result."""
        return self._text

    @property
    def scheme(self) -> str:
        """The part before `://`."""
        return self._text.partition("://")[0]

    def __str__(self) -> str:
        """Return the redacted URL as a setting contains it, without the name of the driver."""
        scheme, separator, rest = redact_url(self._text).partition("://")
        return scheme.partition("+")[0] + separator + rest

    def __repr__(self) -> str:
        return f"Url({redact_url(self._text)!r})"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Url) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)


def redact_url(text: str) -> str:
    """Return `text`, a URL or any other text, without a password that it may contain."""
    head, at, tail = text.rpartition("@")
    if at:
        scheme, separator, authority = head.partition("://")
        user, colon, _ = authority.partition(":")
        head = f"{scheme}://{user}{':***' if colon else ''}" if separator else "***"
    text = f"{head}{at}{tail}"
    base, question, query = text.partition("?")
    parts = (
        part if not _is_secret_parameter(part) else f"{part.partition('=')[0]}=***" if "=" in part else "***"
        for part in query.split("&")
    )
    return f"{base}{question}{'&'.join(parts)}"


def redact_refused(text: str) -> str:
    """Return `text`, which may be a broken URL, without any part that may be a password.

    In a URL without a host, the password is at the place of the port. So the text after a colon is shown only if it is a
    number that follows a host.
    """
    if "@" in text:
        return redact_url(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        # A text with an equals sign may be a connection string, "host=db password=...".
        is_plain = not {":", "="}.intersection(text) or re.fullmatch(r"[^:/?#]+:[0-9]{1,5}", text)
        return text if is_plain else "***"
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host, colon, port = authority.partition(":")
    if colon and not authority.startswith("[") and not (host and re.fullmatch(r"[0-9]{0,5}", port)):
        return f"{scheme}{separator}{host}:***"
    shown, hash_, _ = redact_url(text).partition("#")
    return shown + ("#***" if hash_ else "")


_SECRET_PARAMETER: Final = re.compile(r"(?:pass|pwd|secret|token)[^=]*=", re.IGNORECASE)


def _is_secret_parameter(part: str) -> bool:
    # Search the whole parameter, not only its name: "user=a;password=b" is one parameter.
    return bool(part and "=" not in part) or _SECRET_PARAMETER.search(unquote(part)) is not None


def split_url(text: str) -> SplitResult:
    """Split the URL of one server. Raises `UnusableValueError`."""
    url = urlsplit(text)
    try:
        _ = url.port
    except ValueError:
        raise UnusableValueError(_WRONG_PORT) from None
    _refuse_fragment(text)
    return url


_WRONG_PORT: Final = "the port is not a number; in a password write / ? # and @ as %2F %3F %23 and %40"


def _refuse_fragment(text: str) -> None:
    if "#" in text:
        raise UnusableValueError("write # as %23")


# --- The database -----------------------------------------------------------------------------------------------------

_POSTGRESQL: Final = frozenset(("postgresql", "postgres", "postgresql+asyncpg"))
_SQLITE: Final = frozenset(("sqlite", "sqlite+aiosqlite"))
_HOST: Final = re.compile(r"(?:[^:\[\]]*|\[[^\]]*\])(?::([0-9]{1,5}))?")
_SSL: Final = re.compile(r"ssl=(.*)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class DatabaseUrl:
    """The location of the database. Neither `str` nor `repr` shows a password."""

    text: str = field(repr=False)
    """The URL as it was given, with its password."""
    redacted: str
    path: Path | None
    """The file of an SQLite database; None for PostgreSQL."""
    dsn: str = field(repr=False)
    """The URL for the driver of PostgreSQL, with its password; empty for SQLite."""

    @classmethod
    def parse(cls, text: str) -> DatabaseUrl:
        """Parse a URL in any common spelling for SQLite and PostgreSQL.

        A URL for PostgreSQL may have several hosts, as in libpq. Raises `UnusableValueError`.
        """
        scheme, separator, rest = text.partition("://")
        if not separator or not (scheme in _POSTGRESQL or scheme in _SQLITE):
            raise UnusableValueError("unknown scheme")
        if scheme in _SQLITE:
            return cls._sqlite(text, rest)
        return cls(text, redact_url(f"postgresql://{rest}"), None, f"postgresql://{_postgresql(text, rest)}")

    @classmethod
    def of_file(cls, path: Path) -> DatabaseUrl:
        """Return the URL of the SQLite database in a file, which may have any name."""
        return cls.parse(f"sqlite:///{quote(bytes(path))}")

    @classmethod
    def _sqlite(cls, text: str, rest: str) -> DatabaseUrl:
        location = rest.removeprefix("/")
        if rest == location or not location or location == ":memory:":
            raise UnusableValueError("no file")
        if "?" in location:
            raise UnusableValueError("write ? in the name of a file as %3F")
        _refuse_fragment(location)
        path = Path(os.fsdecode(unquote_to_bytes(location)))
        return cls(text, f"sqlite:///{location}", path, "")

    def __str__(self) -> str:
        return self.redacted


def _postgresql(text: str, rest: str) -> str:
    """Convert the part after the scheme to the form that libpq reads."""
    authority, slash, location = re.match(r"([^/?#]*)(/?)(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # matches anything
    path, _, query = location.partition("?") if slash else ("", "", location)
    hosts = authority.rpartition("@")[2]
    for host in hosts.split(","):
        match = _HOST.fullmatch(host)
        if match is None or int(match[1] or 0) > 65535:
            raise UnusableValueError(_WRONG_PORT)
    _refuse_fragment(text)
    parameters = [_libpq(part) for part in query.split("&")] if query else []
    names = [part.partition("=")[0] for part in parameters]
    if len(set(names)) < len(names):
        raise UnusableValueError("a parameter is named twice")
    if not path.strip("/") or not (hosts or "host" in names):
        raise UnusableValueError("no host or no database")
    return f"{authority}/{path}" + (f"?{'&'.join(parameters)}" if parameters else "")


def _libpq(parameter: str) -> str:
    """Return a parameter under its name in libpq: SQLAlchemy calls `sslmode` `ssl`."""
    match = _SSL.fullmatch(parameter)
    if match is None:
        return parameter
    return "sslmode=" + {"true": "require", "false": "disable"}.get(match[1].lower(), match[1])
