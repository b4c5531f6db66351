"""What there is to permit, and to whom a policy file permits it."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from token_service.core.access.names import problem_of_pattern
from token_service.errors import ConfigurationError


class Permission(StrEnum):
    """What a caller may do. Each RPC names the one it needs."""

    ISSUE = "issue"
    VALIDATE = "validate"
    REFRESH = "refresh"
    REVOKE = "revoke"
    SUBSCRIBE = "subscribe"
    ADMIN = "admin"


def parse_callers(document: Mapping[str, Any]) -> dict[str, frozenset[Permission]]:
    """The permissions of each caller, by the identity in its certificate (a SPIFFE ID or a DNS name).

        [callers."spiffe://example.org/login"]
        permissions = ["issue", "refresh", "revoke"]

    Raises `ConfigurationError` that lists every mistake.
    """
    table = document.get("callers", {})
    if not isinstance(table, dict):
        raise ConfigurationError("callers: must be a table")
    allowed = ", ".join(Permission)
    callers: dict[str, frozenset[Permission]] = {}
    problems: list[str] = []
    for identity, settings in table.items():
        problem = problem_of_pattern(identity)
        if problem is not None:
            problems.append(f"callers.{identity}: {problem}")
            continue
        names = settings.get("permissions") if isinstance(settings, dict) and len(settings) == 1 else None
        if not isinstance(names, list) or not all(name in tuple(Permission) for name in names):
            problems.append(f"callers.{identity}: must have a list `permissions` of {allowed}")
        else:
            callers[identity] = frozenset(Permission(name) for name in names)
    if problems:
        raise ConfigurationError("the callers are invalid:\n  " + "\n  ".join(problems))
    return callers
