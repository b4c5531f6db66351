"""Commands configure the logging of the process. Later tests must find it as it was."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def logging_restored() -> Iterator[None]:
    """Restore the root logger after each test."""
    root = logging.getLogger()
    level, handlers, flags = root.level, root.handlers[:], logging.raiseExceptions
    yield
    root.setLevel(level)
    root.handlers[:] = handlers
    logging.raiseExceptions = flags
