"""One row of the table of settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from token_service.urls import redact_refused

PREFIX: Final = "TOKEN_SERVICE_"


@dataclass(frozen=True, slots=True)
class Setting:
    """One row of the table."""

    name: str
    """The field of `Settings`, the key in the file and, with dashes, the flag."""
    parse: Callable[[str], object]
    """Parses the text of a value. Raises `ValueError`."""
    default: str | None
    """Text of the default. None: not set, or derived from other settings."""
    help: str
    allowed: str
    default_help: str
    secret: bool
    """Never shown, and not a flag: every user of the machine can see flags."""
    flag: str
    switch: bool
    """Whether the flag takes no value."""
    reloadable: bool
    """Whether a running node takes over a change of the file."""

    @property
    def variable(self) -> str:
        """Name of the environment variable."""
        return PREFIX + self.name.upper()

    def show_refused(self, text: str) -> str:
        """Return a refused value without the secrets in it."""
        if self.secret:
            return "***"
        return redact_refused(text) if self.name.endswith("_url") or "://" in text or "@" in text else text


def setting(
    parse: Callable[[str], object],
    default: str | None,
    help: str,  # noqa: A002 - the name that click uses
    *,
    allowed: str,
    default_help: str | None = None,
    secret: bool = False,
    flag: str | None = None,
    switch: bool = False,
    reloadable: bool = False,
) -> Any:
    """Return a dataclass field that carries a `Setting` without its name. `Any`, so that each field keeps its own type."""
    row = {
        "parse": parse,
        "default": default,
        "help": help,
        "allowed": allowed,
        "default_help": default_help if default_help is not None else (default or ""),
        "secret": secret,
        "flag": flag,
        "switch": switch,
        "reloadable": reloadable,
    }
    return field(metadata={"setting": row})
