"""The upstreams of the policy file. The first one is the default.

[upstreams.inhouse]
kind = "challenge"
url = "https://login.example.org/login"
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from token_service.core.access.foreign_issuers import require_known, require_text
from token_service.core.clients.uris import MAX_URI, problem_of_web_uri
from token_service.core.login.oidc_settings import OidcSettings, parse_oidc
from token_service.errors import ConfigurationError
from token_service.suggestions import listed

MAX_UPSTREAMS: Final = 16
_NAME: Final = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class ChallengeSettings:
    """A login service of the policy file."""

    name: str
    url: str
    """The page of the login service."""


UpstreamSettings: TypeAlias = ChallengeSettings | OidcSettings


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
    kind = settings.get("kind")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise ValueError(f"kind: must be one of {', '.join(_KINDS)}")
    return _KINDS[kind](name, settings)


def _challenge(name: str, settings: Mapping[str, Any]) -> ChallengeSettings:
    require_known(settings, ("kind", "url"))
    url = require_text("url", settings.get("url"))
    problem = problem_of_web_uri(url) if len(url) <= MAX_URI else "is too long"
    if problem is not None:
        raise ValueError(f"url: {problem}")
    return ChallengeSettings(name, url)


_KINDS: Final[Mapping[str, Callable[[str, Mapping[str, Any]], UpstreamSettings]]] = {
    "challenge": _challenge,
    "oidc": parse_oidc,
}
