"""Files in MaxMind's format for tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmdb_writer import MMDBWriter
from netaddr import IPSet


def write_address_database(path: Path, networks: Mapping[str, Any]) -> Path:
    """Write a file that knows a record for each network."""
    writer = MMDBWriter(6, ipv4_compatible=True, database_type="Test", languages=["en"], description="test")
    for network, record in networks.items():
        writer.insert_network(IPSet([network]), record)
    writer.to_db_file(str(path))
    return path


def city(country: str, latitude: float, longitude: float, accuracy: int = 20) -> dict[str, Any]:
    """Return a record as in GeoLite2-City."""
    return {
        "country": {"iso_code": country},
        "location": {"latitude": latitude, "longitude": longitude, "accuracy_radius": accuracy},
    }


BERLIN = city("DE", 52.52, 13.4)
NEW_YORK = city("US", 40.71, -74.0)
