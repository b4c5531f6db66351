"""The commands of docs/cli.md print what the page shows, and its tables match the code."""

from __future__ import annotations

import re

import click

from tests.integration.test_tour import tour_server
from tests.integration.tour import DOCS, Tour, section, steps
from token_service.cli import cli
from token_service.cli.exit_codes import ExitCode
from token_service.cli.remote.connection import VARIABLES
from token_service.cli.remote.connections_file import KEYS
from token_service.cli.tokens.validate import command as validate

TEXT = (DOCS / "cli.md").read_text()
_VARYING = re.compile(
    r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ|[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}|\b1[0-9]{9}\b|[\w-]{43}"
    r"|(?<=token_id    )\S+|(?<=jti  )\S+|(?<=revoked at )[\w-]+"
)


def constant(text: str) -> str:
    """Return a text without ids, times and the names of logs."""
    return _VARYING.sub("<varying>", text).strip()


def rows(name: str) -> list[list[str]]:
    """Return the cells of a table on the page."""
    start, end = section(TEXT, name)
    lines = TEXT[start:end].strip().splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_commands_print_what_the_page_shows() -> None:
    page_steps = steps(TEXT, "cli")
    assert len(page_steps) == 4
    with tour_server() as node, Tour(node) as tour:
        tour._type("export HOME=$PWD; unset XDG_CONFIG_HOME ${!TOKEN_SERVICE_*}")
        for step in page_steps:
            assert step.shown is not None
            assert constant(tour.run(step)) == constant(step.shown), step.code


def test_table_of_connections_matches_the_code() -> None:
    table = rows("connections")
    assert [row[0].strip("`") for row in table] == list(KEYS)
    options = {option.name for option in validate.params}
    for key, option, variable, _ in table:
        name = key.strip("`")
        assert variable.strip("`") == VARIABLES.get(name, "")
        assert (option == f"`--{name.replace('_', '-')}`") is (name in options)


def test_table_of_exit_codes_matches_the_code() -> None:
    assert [int(code) for code, _ in rows("exit-codes")] == list(ExitCode)


def test_table_of_commands_names_every_command() -> None:
    named = [name for row in rows("commands") for name in re.findall(r"`([\w-]+)`", row[0])]
    assert sorted(named) == sorted(cli.list_commands(click.Context(cli)))
