"""What a setting's value may be: types and their parsers.

Every parser takes text and raises `UnusableValueError`, or another `ValueError` whose message may repeat the
value.
"""

from __future__ import annotations

import ipaddress
import os
import re
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlencode, urlsplit

from token_service.files import open_regular
from token_service.suggestions import did_you_mean
from token_service.tokens.algorithms import RSA_SIZES
from token_service.tokens.secret import Secret

KEY_ENCRYPTION_KEY_BYTES: Final = 32
_LONGEST_SOCKET_PATH: Final = 107
"""Bytes: `sun_path` of Linux without the NUL."""


class UnusableValueError(ValueError):
    """Why a value can't be used.

    Its message repeats nothing of the value, unlike those of the standard library.
    """


class Profile(StrEnum):
    """What the service is run for."""

    DEVELOPMENT = "development"
    """Any caller may do anything, so only on loopback."""
    PRODUCTION = "production"
    """TLS, callers with certificates, nothing generated that must be kept elsewhere."""


class LogFormat(StrEnum):
    """How log lines look."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen. Port 0 takes a free one."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether nobody outside of this machine can connect.

        A name other than `localhost` is taken for public.
        """
        if self.host == "localhost":
            return True
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return False

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@dataclass(frozen=True, slots=True)
class UnixSocket:
    """Where to listen for programs of this machine."""

    path: Path

    @property
    def is_loopback(self) -> bool:
        """Always: nothing outside of this machine can connect."""
        return True

    def __str__(self) -> str:
        return f"unix:{self.path}"


class Url:
    """A URL that hides its password wherever it is shown. Read it with `reveal()`."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text: Final = text

    def reveal(self) -> str:
        """The URL as it is, with its password. Never log it."""
        return self._text

    @property
    def scheme(self) -> str:
        """What stands before `://`."""
        return self._text.partition("://")[0]

    def __str__(self) -> str:
        """As it is written in a setting: without the driver, which is not the reader's business."""
        scheme, separator, rest = redact_url(self._text).partition("://")
        return scheme.partition("+")[0] + separator + rest

    def __repr__(self) -> str:
        return f"Url({redact_url(self._text)!r})"

    def __eq__(self, other: object) -> bool:
        return self._text == other._text if isinstance(other, Url) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._text)


def redact_url(text: str) -> str:
    """`text` without the password it may hold, be it a URL or not."""
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
    """`text`, which may be a broken URL, without whatever in it may be a password.

    Without a host the password stands where the port is expected, so only a host with a number is shown.
    """
    if "@" in text:
        return redact_url(text)
    scheme, separator, rest = text.partition("://")
    if not separator:
        # What has an equals sign may be a connection string, "host=db password=...".
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
    # Also in what follows the first name: "user=a;password=b" is one parameter.
    return bool(part and "=" not in part) or _SECRET_PARAMETER.search(unquote(part)) is not None


def parse_address(text: str) -> Address:
    """`host:port`, with an IPv6 address in brackets."""
    host, colon, port = text.rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    if bracketed:
        host = str(ipaddress.IPv6Address(host[1:-1]))
    if not colon or not host or (":" in host and not bracketed) or not port.isascii() or not port.isdigit():
        raise UnusableValueError("not host:port")
    if host != "localhost" and not bracketed and not all(c.isalnum() or c in "-._" for c in host):
        raise UnusableValueError("not a host")
    if int(port) > 65535:
        raise UnusableValueError("the port is out of range")
    return Address(host, int(port))


def parse_grpc_address(text: str) -> Address | UnixSocket:
    """`host:port` or `unix:path`."""
    scheme, colon, path = text.partition(":")
    if scheme != "unix" or not colon:
        return parse_address(text)
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            raise UnusableValueError("unix:// is followed by an absolute path")
    if not path or path.endswith("/"):
        raise UnusableValueError("no path")
    socket = parse_path(path)
    if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH:
        raise UnusableValueError(f"the path of a socket has at most {_LONGEST_SOCKET_PATH} bytes")
    return UnixSocket(socket)


def _split(text: str) -> SplitResult:
    url = urlsplit(text)
    try:
        _ = url.port
    except ValueError:
        raise UnusableValueError(
            "the port is no number; in a password write / ? # and @ as %2F %3F %23 and %40"
        ) from None
    if "#" in text:
        raise UnusableValueError("write # as %23")
    return url


def parse_database_url(text: str) -> Url:
    """A URL for SQLAlchemy, with the driver the service uses, of any spelling common for SQLite and
    PostgreSQL.
    """
    url = _split(text)
    if url.scheme in {"sqlite", "sqlite+aiosqlite"}:
        path = url.path.removeprefix("/")
        if url.netloc or not path or path == ":memory:":
            raise UnusableValueError("no file")
        if "?" in text:
            raise UnusableValueError("write ? in the name of a file as %3F")
        return Url(f"sqlite+aiosqlite:///{path}")
    if url.scheme in {"postgres", "postgresql", "postgresql+asyncpg"}:
        query = dict(parse_qsl(url.query, keep_blank_values=True))
        if not url.path.strip("/") or not (url.hostname or "host" in query):
            raise UnusableValueError("no host or no database")
        if "sslmode" in query:  # libpq's name for what asyncpg calls ssl
            query["ssl"] = query.pop("sslmode")
        text = f"postgresql+asyncpg://{url.netloc}{url.path}"
        return Url(f"{text}?{urlencode(query)}" if query else text)
    raise UnusableValueError("unknown scheme")


def parse_redis_url(text: str) -> Url:
    """A URL for redis-py."""
    url = _split(text)
    if url.scheme not in {"redis", "rediss", "unix"} or not (
        url.hostname or (url.scheme == "unix" and url.path)
    ):
        raise UnusableValueError("not a Redis URL")
    return Url(text)


def parse_issuer(text: str) -> str:
    """An issuer identifier (RFC 8414, section 2), with http allowed."""
    url = urlsplit(text)
    _ = url.port
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment or url.username:
        raise UnusableValueError("not an issuer")
    if any(c.isspace() for c in text) or text.endswith(("?", "#")):
        raise UnusableValueError("not an issuer")
    return text


def parse_key_encryption_keys(text: str) -> tuple[Secret, ...]:
    """Keys separated by commas or white space, at least one."""
    keys = tuple(_key_encryption_key(part) for part in text.replace(",", " ").split())
    if not keys:
        raise UnusableValueError("no key")
    return keys


def _key_encryption_key(text: str) -> Secret:
    try:
        key = b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (Base64Error, ValueError):
        raise UnusableValueError("not base64") from None
    if len(key) != KEY_ENCRYPTION_KEY_BYTES:
        raise UnusableValueError(f"not {KEY_ENCRYPTION_KEY_BYTES} bytes")
    return Secret(key)


def parse_flag(text: str) -> bool:
    """True or false, in any of the usual words."""
    if text.lower() in {"true", "1", "yes", "on"}:
        return True
    if text.lower() in {"false", "0", "no", "off"}:
        return False
    raise UnusableValueError("neither true nor false")


def parse_path(text: str) -> Path:
    """A path, with `~` for the home directory."""
    if "\0" in text:
        raise UnusableValueError("not a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UnusableValueError("no such home directory") from None


def parse_file(text: str) -> Path:
    """The path of a regular file that can be read now."""
    path = parse_path(text)
    try:
        with open_regular(path):
            return path
    except OSError as error:
        raise UnusableValueError(error.strerror) from None


def one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """A parser for the values of an enum, in upper or lower case."""

    def parse(text: str) -> StrEnum:
        for member in kind:
            if member.value.lower() == text.lower():
                return member
        raise UnusableValueError(f"unknown{did_you_mean(text, kind)}")

    return parse


def choice(*values: str) -> Callable[[str], str]:
    """A parser for these values, in upper or lower case."""

    def parse(text: str) -> str:
        if text.lower() not in values:
            raise UnusableValueError(f"unknown{did_you_mean(text, values)}")
        return text.lower()

    return parse


def parse_rsa_bits(text: str) -> int:
    """A size of RSA keys. Raises `ValueError`."""
    for bits in RSA_SIZES:
        if text == str(bits):
            return bits
    raise UnusableValueError("no such size")


def parse_secret(text: str) -> Secret:
    """Text that is never shown."""
    return Secret(text.encode())


def whole(low: int, high: int) -> dict[str, Any]:
    """`parse` and `allowed` of a whole number within both bounds."""

    def parse(text: str) -> int:
        number = int(text) if text.isascii() else low - 1
        if not low <= number <= high:
            raise UnusableValueError("out of range")
        return number

    return {"parse": parse, "allowed": f"a whole number from {low} to {high}"}


_UNITS: Final = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400}


def seconds(low: str, high: str) -> dict[str, Any]:
    """`parse` and `allowed` of a time within both bounds, in seconds."""
    least, most = _duration(low), _duration(high)

    def parse(text: str) -> float:
        seconds = _duration(text)
        if not least <= seconds <= most:
            raise UnusableValueError("out of range")
        return seconds

    return {
        "parse": parse,
        "allowed": f"a time from {low} to {high}, e.g. `250ms`, `10s`, `5m`, `1h`; a bare number is seconds",
    }


def duration_text(seconds: float) -> str:
    """A time as it is written in a setting, in the largest unit that it is a whole number of."""
    for unit, factor in sorted(_UNITS.items(), key=lambda item: -item[1]):
        number = round(seconds / factor)
        if number and abs(number * factor - seconds) < _UNITS["ms"] / 1000:
            return f"{number}{unit}"
    return f"{seconds:g}s"


def _duration(text: str) -> float:
    number = text.rstrip("mshd")
    unit = text[len(number) :] or "s"
    if unit not in _UNITS or not all(c in "0123456789." for c in number):
        raise UnusableValueError("not a time")
    return float(number) * _UNITS[unit]
