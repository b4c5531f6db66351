"""The upstreams of the policy file. The first one is the default.

[upstreams.inhouse]
kind = "challenge"
url = "https://login.example.org/login"
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from token_service.core.clients.uris import MAX_URI, problem_of_web_uri
from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed

MAX_UPSTREAMS: Final = 16
CHALLENGE: Final = "challenge"
_KINDS: Final = (CHALLENGE,)
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")
_SETTINGS: Final = ("kind", "url")


@dataclass(frozen=True, slots=True)
class UpstreamSettings:
    """An upstream of the policy file."""

    name: str
    kind: str
    url: str = ""
    """The page of the login service."""


def parse_upstreams(document: Mapping[str, Any]) -> dict[str, UpstreamSettings]:
    """Return the upstreams by name, in their order. Raises `ConfigurationError`, which lists every mistake."""
    table = document.get("upstreams", {})
    if not isinstance(table, dict):
        raise ConfigurationError("upstreams: must be a table")
    problems: list[str] = []
    found: dict[str, UpstreamSettings] = {}
    if len(table) > MAX_UPSTREAMS:
        problems.append(f"upstreams: more than {MAX_UPSTREAMS}")
    for name, settings in table.items():
        try:
            found[name] = _upstream(name, settings)
        except ValueError as error:
            problems.append(f"upstreams.{name}: {error}")
    if problems:
        raise ConfigurationError(listed("the upstreams are invalid:", problems))
    return found


def _upstream(name: str, settings: Any) -> UpstreamSettings:
    if _NAME.fullmatch(name) is None:
        raise ValueError("the name must have lower-case letters, digits and inner dashes, at most 64")
    if not isinstance(settings, dict):
        raise ValueError("must be a table")
    for key, value in settings.items():
        if key not in _SETTINGS:
            raise ValueError(
                f"{key}: no such setting; allowed: {', '.join(_SETTINGS)}{did_you_mean(key, _SETTINGS)}"
            )
        if not isinstance(value, str) or not value:
            raise ValueError(f"{key}: must be a text")
    upstream = UpstreamSettings(name, **{"kind": "", **settings})
    if upstream.kind not in _KINDS:
        raise ValueError(f"kind: must be one of {', '.join(_KINDS)}")
    problem = problem_of_web_uri(upstream.url) if len(upstream.url) <= MAX_URI else "is too long"
    if problem is not None:
        raise ValueError(f"url: {problem}")
    return upstream
