"""Answers of programs on a pipe, within a limit of time."""

from __future__ import annotations

import select
from typing import IO

PATIENCE = 120.0
"""Seconds for one answer. Only a hanging program takes as long."""


def read_answer(stream: IO[str], what: str, seconds: float = PATIENCE) -> str:
    """Return the next line of a program that answers each question with one line; empty: the program has ended.

    `what` names what the program was asked for. Raises `TimeoutError` with it.
    """
    readable, _, _ = select.select([stream], [], [], seconds)
    if not readable:
        raise TimeoutError(f"no answer within {seconds:g} s: {what}")
    return stream.readline()
