"""Commands that work at a running service or, if none is named, on the database."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from token_service.cli.remote.connection import find_connection
from token_service.cli.remote.options import call_service, taken_connection, with_connection_options
from token_service.cli.settings_options import add_settings_flags, load_flags, taken_flags
from token_service.config import SETTINGS


def place_options(function: Callable[..., None]) -> Callable[..., None]:
    """Add the flags of the settings and the connection options to a command.

    Call it with `place`: a `Service` if a service is named, otherwise the `Settings`, which name a database.
    """

    @wraps(function)
    def choose(**arguments: Any) -> None:
        flags = taken_flags(arguments)
        connection = find_connection(taken_connection(arguments), os.environ)
        if connection is None:
            function(place=load_flags(flags), **arguments)
            return
        if given := [each.flag for each in SETTINGS if flags.get(each.name) is not None]:
            raise click.UsageError(
                f"{given[0]} is a setting of the service, and this command calls the service at {connection.target}; leave it "
                'out, or give --target "" to work on the database'
            )
        call_service(connection, lambda service: function(place=service, **arguments))

    return add_settings_flags(with_connection_options(choose))
