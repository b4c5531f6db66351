"""Locations of network addresses: the port for an operator's database of addresses, and distances."""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt
from typing import Final, Protocol

import msgspec

from token_service.core.access.rates import network_of

_EARTH_RADIUS: Final = 6371.0
"""Kilometers."""


class Location(msgspec.Struct, frozen=True):
    """The location of an address. Empty and None: the database does not know it."""

    country: str = ""
    """The two letters of ISO 3166-1."""
    latitude: float | None = None
    longitude: float | None = None
    accuracy: float = 0.0
    """The radius in kilometers within which the address probably is."""
    network: str = ""
    """The autonomous system of the address, such as `AS64500`."""


class Locator(Protocol):
    """A database of addresses in memory."""

    def locate(self, address: str) -> Location | None:
        """Return the location of an address; None if it is unknown or the text is no address. Never raises or blocks."""
        ...


def network(address: str, location: Location | None) -> str:
    """Return the network that an address counts as; empty: the address is empty.

    It is the autonomous system if that is known, else the IPv4 address or the /64 network of the IPv6 address.
    """
    if location is not None and location.network:
        return location.network
    return network_of(address)


def distance(one: Location, other: Location) -> float | None:
    """Return the kilometers that certainly lie between two locations; None if a location has no coordinates."""
    if one.latitude is None or one.longitude is None or other.latitude is None or other.longitude is None:
        return None
    north, south = radians(one.latitude), radians(other.latitude)
    half = sin((south - north) / 2) ** 2
    half += cos(north) * cos(south) * sin(radians(other.longitude - one.longitude) / 2) ** 2
    length = 2 * _EARTH_RADIUS * asin(sqrt(min(1.0, max(0.0, half))))
    return max(0.0, length - one.accuracy - other.accuracy)
