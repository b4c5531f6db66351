"""Locations from files in MaxMind's format."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from tests.support.address_databases import BERLIN, NEW_YORK, write_address_database
from token_service.core.risk.location import Location
from token_service.errors import ConfigurationError
from token_service.fetching.address_databases import AddressDatabases, open_address_databases


@pytest.fixture(scope="module")
def databases(tmp_path_factory: pytest.TempPathFactory) -> AddressDatabases:
    directory = tmp_path_factory.mktemp("databases")
    cities = write_address_database(
        directory / "city.mmdb",
        {
            "192.0.2.0/24": BERLIN,
            "2001:db8::/32": NEW_YORK,
            "203.0.113.0/24": {"registered_country": {"iso_code": "FR"}},
            "198.51.100.0/24": {"country": "odd", "location": {"latitude": "north", "longitude": 3.0}},
        },
    )
    networks = write_address_database(
        directory / "asn.mmdb",
        {
            "192.0.2.0/24": {"autonomous_system_number": 64500},
            "198.51.100.0/24": {"autonomous_system_number": 0},
        },
    )
    return open_address_databases([cities, networks])


def test_several_files_know_the_parts_of_a_location(databases: AddressDatabases) -> None:
    assert databases.locate("192.0.2.7") == Location("DE", 52.52, 13.4, 20.0, "AS64500")
    assert databases.locate("2001:db8::1") == Location("US", 40.71, -74.0, 20.0, "")
    assert databases.locate("203.0.113.9") == Location("FR", None, None, 0.0, "")
    assert len(databases.sha256) == 2


def test_odd_records_and_unknown_addresses_have_no_location(databases: AddressDatabases) -> None:
    assert databases.locate("198.51.100.1") is None
    assert databases.locate("8.8.8.8") is None
    assert databases.locate("") is None


@given(st.text())
def test_no_text_raises(databases: AddressDatabases, address: str) -> None:
    assert databases.locate(address) is None or address.count(".") == 3 or ":" in address


def test_unusable_files_are_refused_with_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"can't be read: No such file .* such as GeoLite2-City"):
        open_address_databases([tmp_path / "none.mmdb"])
    (tmp_path / "odd.mmdb").write_bytes(b"odd" * 1000)
    with pytest.raises(ConfigurationError, match="is no database of addresses in MaxMind's format"):
        open_address_databases([tmp_path / "odd.mmdb"])
    with pytest.raises(ConfigurationError, match="can't be read: Is a directory"):
        open_address_databases([tmp_path])
