"""Files in MaxMind's format that name the countries of networks."""

from __future__ import annotations

from pathlib import Path

from token_service.app.locations import open_locations
from token_service.cli.exit_codes import CommandFailedError, ExitCode
from token_service.core.reports.trail.reports import Locations
from token_service.errors import ConfigurationError


def read_locations(path: Path) -> Locations:
    """Read a file such as GeoLite2-Country.mmdb. Raises `CommandFailedError`."""
    try:
        databases = open_locations([path])
    except ConfigurationError as error:
        raise CommandFailedError(f"--geoip: {error.message}", ExitCode.USAGE) from None
    return Locations(databases, databases.sha256[0])
