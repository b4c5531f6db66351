"""The types of settings, and their parsers.

Every parser takes text. It raises `UnusableValueError`, or another `ValueError` whose message may repeat the value.
"""

from __future__ import annotations

import ipaddress
import os
from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from token_service.core.clients.documents import problem_of_host_pattern
from token_service.core.limits import Checks
from token_service.durations import parse_duration
from token_service.errors import InvalidRequestError
from token_service.files import open_regular
from token_service.suggestions import did_you_mean
from token_service.tokens.algorithms import RSA_SIZES
from token_service.tokens.secret import Secret
from token_service.urls import UnusableValueError

KEY_ENCRYPTION_KEY_BYTES: Final = 32
MAX_NETWORKS: Final = 32
_LONGEST_SOCKET_PATH: Final = 107
"""Bytes: `sun_path` of Linux without the NUL."""


class Profile(StrEnum):
    """The purpose that the service runs for."""

    DEVELOPMENT = "development"
    """Every caller may do everything, so the service listens on loopback only."""
    PRODUCTION = "production"
    """TLS, callers with certificates, and no generated secrets."""


class LogFormat(StrEnum):
    """The format of log lines."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Address:
    """An address to listen on. Port 0 takes a free port."""

    host: str
    port: int

    @property
    def is_loopback(self) -> bool:
        """Whether only programs on this machine can connect.

        Every name other than `localhost` counts as public.
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
    """A unix socket to listen on."""

    path: Path

    @property
    def is_loopback(self) -> bool:
        """True, because only programs on this machine can connect."""
        return True

    def __str__(self) -> str:
        return f"unix:{self.path}"


def parse_address(text: str) -> Address:
    """Parse `host:port`, with an IPv6 address in brackets."""
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


class MetricsPlace(StrEnum):
    """A place of the page of metrics that is not an address of its own."""

    HTTP = "http"
    """The HTTP address."""
    OFF = "off"
    """None."""


def parse_metrics_address(text: str) -> Address | MetricsPlace:
    """Parse `host:port`, `http` or `off`."""
    try:
        return MetricsPlace(text)
    except ValueError:
        return parse_address(text)


def parse_grpc_address(text: str) -> Address | UnixSocket:
    """Parse `host:port` or `unix:path`."""
    scheme, colon, path = text.partition(":")
    if scheme != "unix" or not colon:
        return parse_address(text)
    if path.startswith("//"):
        path = path.removeprefix("//")
        if not path.startswith("/"):
            raise UnusableValueError("the path after unix:// must be absolute")
    if not path or path.endswith("/"):
        raise UnusableValueError("no path")
    socket = parse_path(path)
    if len(os.fsencode(socket)) > _LONGEST_SOCKET_PATH:
        raise UnusableValueError(f"the path of a socket may have at most {_LONGEST_SOCKET_PATH} bytes")
    return UnixSocket(socket)


class Networks(tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...]):
    """Networks of addresses."""

    __slots__ = ()

    def __str__(self) -> str:
        return ",".join(map(str, self))


def parse_networks(text: str) -> Networks:
    """Parse networks and addresses, separated by commas or white space."""
    parts = text.replace(",", " ").split()
    if not parts or len(parts) > MAX_NETWORKS:
        raise UnusableValueError(f"not 1 to {MAX_NETWORKS} networks")
    networks = Networks(map(ipaddress.ip_network, parts))
    if any(network.prefixlen == 0 for network in networks):
        raise UnusableValueError("a network of all addresses, so that every client could forge headers")
    return networks


def parse_hosts(text: str) -> tuple[str, ...]:
    """Parse patterns of hosts, separated by commas or white space."""
    patterns = tuple(text.lower().replace(",", " ").split())
    if not patterns:
        raise UnusableValueError("no host")
    for pattern in patterns:
        problem = problem_of_host_pattern(pattern)
        if problem is not None:
            raise UnusableValueError(f"{pattern} {problem}")
    return patterns


def parse_scopes(text: str) -> tuple[str, ...]:
    """Parse scopes, separated by commas or white space."""
    scopes = tuple(text.replace(",", " ").split())
    checks = Checks()
    checks.scopes("scopes", scopes)
    try:
        checks.done()
    except InvalidRequestError as error:
        raise UnusableValueError(error.message) from None
    return scopes


def parse_issuer(text: str) -> str:
    """Parse an issuer identifier (RFC 8414, section 2). Unlike the RFC, this allows http."""
    url = urlsplit(text)
    _ = url.port
    if url.scheme not in {"http", "https"} or not url.hostname or url.query or url.fragment or url.username:
        raise UnusableValueError("not an issuer")
    if any(c.isspace() for c in text) or text.endswith(("?", "#")):
        raise UnusableValueError("not an issuer")
    return text


def parse_key_encryption_keys(text: str) -> tuple[Secret, ...]:
    """Parse one or more keys, separated by commas or white space."""
    keys = tuple(_key_encryption_key(part) for part in text.replace(",", " ").split())
    if not keys:
        raise UnusableValueError("no key")
    return keys


def parse_key(text: str) -> Secret:
    """Parse exactly one key."""
    keys = parse_key_encryption_keys(text)
    if len(keys) > 1:
        raise UnusableValueError("more than one key")
    return keys[0]


def _key_encryption_key(text: str) -> Secret:
    try:
        key = b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True)
    except (Base64Error, ValueError):
        raise UnusableValueError("not base64") from None
    if len(key) != KEY_ENCRYPTION_KEY_BYTES:
        raise UnusableValueError(f"not {KEY_ENCRYPTION_KEY_BYTES} bytes")
    return Secret(key)


def parse_flag(text: str) -> bool:
    """Parse true or false, in any usual word."""
    if text.lower() in {"true", "1", "yes", "on"}:
        return True
    if text.lower() in {"false", "0", "no", "off"}:
        return False
    raise UnusableValueError("neither true nor false")


def parse_path(text: str) -> Path:
    """Parse a path, with `~` for the home directory."""
    if "\0" in text:
        raise UnusableValueError("not a path")
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise UnusableValueError("no such home directory") from None


def parse_file(text: str) -> Path:
    """Parse the path of a regular file that this process can read now."""
    path = parse_path(text)
    try:
        with open_regular(path):
            return path
    except OSError as error:
        raise UnusableValueError(error.strerror) from None


def one_of(kind: type[StrEnum]) -> Callable[[str], StrEnum]:
    """Return a parser for the values of an enum, in upper or lower case."""

    def parse(text: str) -> StrEnum:
        for member in kind:
            if member.value.lower() == text.lower():
                return member
        raise UnusableValueError(f"unknown{did_you_mean(text, kind)}")

    return parse


def choice(*values: str) -> Callable[[str], str]:
    """Return a parser for these values, in upper or lower case."""

    def parse(text: str) -> str:
        if text.lower() not in values:
            raise UnusableValueError(f"unknown{did_you_mean(text, values)}")
        return text.lower()

    return parse


def parse_rsa_bits(text: str) -> int:
    """Parse a size of RSA keys."""
    for bits in RSA_SIZES:
        if text == str(bits):
            return bits
    raise UnusableValueError("no such size")


def parse_secret(text: str) -> Secret:
    """Wrap text that is never shown."""
    return Secret(text.encode())


def whole(low: int, high: int) -> dict[str, Any]:
    """Return `parse` and `allowed` of a whole number within both bounds."""

    def parse(text: str) -> int:
        number = int(text) if text.isascii() else low - 1
        if not low <= number <= high:
            raise UnusableValueError("out of range")
        return number

    return {"parse": parse, "allowed": f"a whole number from {low} to {high}"}


def seconds(low: str, high: str) -> dict[str, Any]:
    """Return `parse` and `allowed` of a duration within both bounds, in seconds."""
    least, most = parse_duration(low), parse_duration(high)

    def parse(text: str) -> float:
        try:
            seconds = parse_duration(text)
        except ValueError as error:
            raise UnusableValueError(str(error)) from None
        if not least <= seconds <= most:
            raise UnusableValueError("out of range")
        return seconds

    return {
        "parse": parse,
        "allowed": f"a time from {low} to {high}, e.g. `250ms`, `10s`, `5m`, `1h`; a bare number is seconds",
    }
