"""An operator's databases of addresses in MaxMind's format, such as GeoLite2-City and GeoLite2-ASN, as a `Locator`."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping, Sequence
from functools import lru_cache
from ipaddress import ip_address
from math import isfinite
from pathlib import Path
from typing import Any, Final

import maxminddb

from token_service.core.risk.location import Location
from token_service.errors import ConfigurationError
from token_service.files import read_regular

MAX_ADDRESS_DATABASE: Final = 1 << 30
"""Bytes of one file."""
_CACHED: Final = 65_536
"""Addresses whose locations are kept. A lookup takes about 30 us, a kept one 0.1 us."""


class AddressDatabases:
    """Several files, each of which may know a part of a location. The first that knows a part decides.

    The files are read into memory: one that is overwritten while it is mapped would end the process.
    """

    def __init__(self, contents: Mapping[Path, bytes]) -> None:
        """Raises `ConfigurationError` if a file is not in MaxMind's format."""
        self._readers: Final = [_reader(path, data) for path, data in contents.items()]
        self.sha256: Final = [hashlib.sha256(data).hexdigest() for data in contents.values()]
        """The digests of the files, in hexadecimal digits."""
        self.locate = lru_cache(maxsize=_CACHED)(self._locate)
        """See `Locator.locate`."""

    def _locate(self, address: str) -> Location | None:
        country, coordinates, network = "", None, ""
        try:
            parsed = ip_address(address)
        except ValueError:
            return None
        for reader in self._readers:
            record = _record(reader, parsed)
            country = country or _country(record)
            coordinates = coordinates or _coordinates(record)
            network = network or _network(record)
        if not (country or coordinates or network):
            return None
        latitude, longitude, accuracy = coordinates or (None, None, 0.0)
        return Location(country, latitude, longitude, accuracy, network)


def open_address_databases(paths: Sequence[str | Path]) -> AddressDatabases:
    """Read the files. Raises `ConfigurationError`, which names the file and its fault."""
    contents = {}
    for path in map(Path, paths):
        try:
            contents[path] = read_regular(path, MAX_ADDRESS_DATABASE)
        except OSError as error:
            raise ConfigurationError(
                f"the database of addresses {path} can't be read: {error.strerror or error}; give a file such as "
                "GeoLite2-City.mmdb"
            ) from None
    return AddressDatabases(contents)


def _reader(path: Path, data: bytes) -> maxminddb.Reader:
    file = io.BytesIO(data)
    file.name = str(path)
    try:
        return maxminddb.open_database(file, maxminddb.MODE_FD)
    except (maxminddb.InvalidDatabaseError, ValueError):
        raise ConfigurationError(
            f"{path} is no database of addresses in MaxMind's format; give a file such as GeoLite2-City.mmdb"
        ) from None


def _record(reader: maxminddb.Reader, address: Any) -> Mapping[str, Any]:
    try:
        record = reader.get(address)
    except (ValueError, maxminddb.InvalidDatabaseError):  # IPv6 in a file of IPv4, or a damaged file
        return {}
    return record if isinstance(record, dict) else {}


def _table(record: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    table = record.get(name)
    return table if isinstance(table, dict) else {}


def _country(record: Mapping[str, Any]) -> str:
    for name in ("country", "registered_country"):
        code = _table(record, name).get("iso_code")
        if isinstance(code, str) and len(code) == 2:
            return code
    return ""


def _coordinates(record: Mapping[str, Any]) -> tuple[float, float, float] | None:
    location = _table(record, "location")
    numbers = [location.get(name, 0) for name in ("latitude", "longitude", "accuracy_radius")]
    if "latitude" not in location or "longitude" not in location:
        return None
    if not all(isinstance(number, int | float) and isfinite(number) for number in numbers):
        return None
    latitude, longitude, accuracy = map(float, numbers)
    return latitude, longitude, max(0.0, accuracy)


def _network(record: Mapping[str, Any]) -> str:
    number = record.get("autonomous_system_number")
    return f"AS{number}" if isinstance(number, int) and number > 0 else ""
