"""URLs that may contain a password: parsing, and redaction for display."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, parse_qsl, quote, unquote, unquote_to_bytes, urlencode, urlsplit


class UnusableValueError(ValueError):
    """A value can't be used.

    The message never repeats a part of the value, unlike the messages of the standard library.
    """


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

    @property
    def servers(self) -> tuple[str, ...]:
        """The URL of each server for the driver of PostgreSQL, with the password."""
        scheme, separator, rest = self.dsn.partition("://")
        authority, slash, location = rest.partition("/")
        user, at, hosts = authority.rpartition("@")
        return tuple(f"{scheme}{separator}{user}{at}{host}{slash}{location}" for host in hosts.split(","))

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


# --- Redis ------------------------------------------------------------------------------------------------------------

_SENTINEL_PORT: Final = 26379
_REDIS_PORT: Final = 6379
_MAX_REDIS_HOSTS: Final = 16


class RedisKind(StrEnum):
    """How the server is found."""

    SERVER = "server"
    SOCKET = "socket"
    SENTINEL = "sentinel"
    CLUSTER = "cluster"


@dataclass(frozen=True, slots=True)
class RedisUrl:
    """The location of Redis. Neither `str` nor `repr` shows a password."""

    text: str = field(repr=False)
    """The URL as it was given, with its passwords."""
    redacted: str
    kind: RedisKind
    tls: bool
    addresses: tuple[tuple[str, int], ...]
    """The server, the sentinels, or some nodes of the cluster; empty for a socket."""
    driver_url: str = field(repr=False)
    """A URL for redis-py with the options of each connection. Its host counts only for `SOCKET`."""
    has_password: bool
    master: str = ""
    """The name of the master that the sentinels watch."""
    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, text: str) -> RedisUrl:
        """Parse a `redis`, `redis+sentinel`, `redis+cluster` URL, the same with `rediss`, or a `unix` URL.

        Raises `UnusableValueError`.
        """
        scheme, separator, rest = text.partition("://")
        base, _, finder = scheme.partition("+")
        if not separator or base not in {"redis", "rediss", "unix"} or (base == "unix" and finder):
            raise UnusableValueError("not a Redis URL")
        if finder not in {"", "sentinel", "cluster"}:
            raise UnusableValueError("after redis+ only sentinel and cluster are known")
        _refuse_fragment(text)
        authority, path, query = re.match(r"([^/?]*)([^?]*)\??(.*)", rest, re.DOTALL).groups()  # type: ignore[union-attr]  # matches anything
        proof, at, hosts = authority.rpartition("@")
        has_password = ":" in proof
        shown = redact_url(text)
        if base == "unix":
            if not path.strip("/"):
                raise UnusableValueError("no path of a socket")
            return cls(
                text,
                shown,
                RedisKind.SOCKET,
                tls=False,
                addresses=(),
                driver_url=text,
                has_password=has_password,
            )
        kind = RedisKind(finder or "server")
        addresses = _redis_addresses(hosts, _SENTINEL_PORT if kind is RedisKind.SENTINEL else _REDIS_PORT)
        if kind is RedisKind.SERVER and len(addresses) > 1:
            raise UnusableValueError("several hosts; write redis+sentinel:// or redis+cluster://")
        master, database = "", path.strip("/")
        options = parse_qsl(query, keep_blank_values=True)
        sentinel = {name: value for name, value in options if name.startswith("sentinel_")}
        if kind is RedisKind.SENTINEL:
            master, _, database = database.partition("/")
            master = unquote(master)
            if not master:
                raise UnusableValueError("no name of a master; write redis+sentinel://host:26379/name")
        if set(sentinel) - (_SENTINEL_OPTIONS if master else set()):
            raise UnusableValueError("an option for sentinels that is not known here")
        if database and not (database.isascii() and database.isdigit()):
            raise UnusableValueError("the database is not a number")
        if kind is RedisKind.CLUSTER and int(database or 0):
            raise UnusableValueError("a Redis Cluster has database 0 only")
        rest_of_query = urlencode([each for each in options if each[0] not in sentinel])
        return cls(
            text,
            shown,
            kind,
            tls=base == "rediss",
            addresses=addresses,
            driver_url=f"{base}://{proof}{at}localhost/{database}"
            + (f"?{rest_of_query}" if rest_of_query else ""),
            has_password=has_password,
            master=master,
            sentinel_username=sentinel.get("sentinel_username"),
            sentinel_password=sentinel.get("sentinel_password"),
        )

    def __str__(self) -> str:
        return self.redacted


_SENTINEL_OPTIONS: Final = frozenset(("sentinel_username", "sentinel_password"))


def _redis_addresses(hosts: str, port: int) -> tuple[tuple[str, int], ...]:
    found = []
    for host in hosts.split(","):
        match = _HOST.fullmatch(host)
        if match is None or int(match[1] or 0) > 65535:
            raise UnusableValueError(_WRONG_PORT)
        name = host.rpartition(":")[0] if match[1] else host.removesuffix(":")
        if not name:
            raise UnusableValueError("no host")
        found.append((unquote(name.strip("[]")), int(match[1] or port)))
    if len(found) > _MAX_REDIS_HOSTS:
        raise UnusableValueError(f"more than {_MAX_REDIS_HOSTS} hosts")
    return tuple(found)
