"""Progress is a line on a terminal, and nothing elsewhere."""

from __future__ import annotations

import io
from contextlib import redirect_stderr

import pytest

from tests.support.command_service import CommandService
from token_service.cli.progress import Progress
from token_service.cli.remote.connection import Connection
from token_service.cli.remote.service import Service
from token_service.cli.waiting import revoke_and_wait
from token_service.v1.token_service_pb2 import RevokeTokenRequest, RevokeTokenResponse


class Terminal(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self) -> bool:
        """Tell that this is one."""
        return True


def test_line_shows_the_count_and_is_removed_at_the_end() -> None:
    with redirect_stderr(Terminal()) as terminal, Progress("migrations") as progress:
        progress.show(15, 30)
        progress.show(30, 30, "last")
    _, first, last, end = terminal.getvalue().split("\r\x1b[K")
    assert first == f"migrations  [{'#' * 15}{'-' * 15}] 15/30  0s"
    assert last == f"migrations  [{'#' * 30}] 30/30  last  0s"
    assert end == ""


def test_unknown_total_shows_the_number() -> None:
    with redirect_stderr(Terminal()) as terminal, Progress("events verified") as progress:
        progress.show(12_000)
    assert "events verified  12,000  0s" in terminal.getvalue()


def test_line_is_drawn_at_most_ten_times_a_second() -> None:
    with redirect_stderr(Terminal()) as terminal, Progress("lines") as progress:
        progress._next = float("inf")  # drawn just now
        for number in range(1000):
            progress.show(number)
    assert "lines" not in terminal.getvalue()


@pytest.mark.parametrize("quiet", [True, False])
def test_nothing_is_shown_quietly_or_without_a_terminal(quiet: bool) -> None:  # noqa: FBT001
    stream = Terminal() if quiet else io.StringIO()
    with redirect_stderr(stream), Progress("migrations", quiet=quiet) as progress:
        progress.show(1, 2)
    assert stream.getvalue() == ""


def test_bar_counts_the_validators_that_have_confirmed() -> None:
    answers = iter(
        RevokeTokenResponse(
            cursor=f"e:{number}", subscribers_connected=2, subscribers_applied=number, subscribers_silent=1
        )
        for number in (0, 1, 2)
    )
    with CommandService() as service:
        service.answers["RevokeToken"] = lambda _: next(answers)
        connection = Connection(target=service.target, plain=True)
        with redirect_stderr(Terminal()) as terminal, Service(connection) as connected:
            result = revoke_and_wait(connected, RevokeTokenRequest(subject="alice"), 60, quiet=False)
    assert (result.cursor, result.subscribers_applied) == ("e:0", 2)
    shown = terminal.getvalue()
    assert "validators that have confirmed  [------------------------------] 0/2  1 silent" in shown
    assert "2/2  1 silent" in shown
