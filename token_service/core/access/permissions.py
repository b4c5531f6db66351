"""Permissions, and the callers that a policy file gives them to. `gate.NEEDED` says which one each RPC needs."""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from token_service.core.access.names import problem_of_pattern
from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed, shown


class Permission(StrEnum):
    """A right of a caller. `gate` names the permission that each use case needs."""

    ISSUE = "issue"
    VALIDATE = "validate"
    REFRESH = "refresh"
    REVOKE = "revoke"
    SUBSCRIBE = "subscribe"
    ADMIN = "admin"


def parse_callers(document: Mapping[str, Any]) -> dict[str, frozenset[Permission]]:
    """Return the permissions of callers by the name in their certificate (a SPIFFE ID or a DNS name).

        [callers."spiffe://example.org/login"]
        permissions = ["issue", "refresh", "revoke"]

    Raises `ConfigurationError`, which lists every mistake.
    """
    table = document.get("callers", {})
    if not isinstance(table, dict):
        raise ConfigurationError("callers: must be a table")
    callers: dict[str, frozenset[Permission]] = {}
    problems: list[str] = []
    for identity, settings in table.items():
        problem = problem_of_pattern(identity)
        if problem is not None:
            problems.append(f"callers.{identity}: {problem}")
            continue
        try:
            callers[identity] = _permissions(settings)
        except ValueError as error:
            problems.append(f"callers.{identity}: {error}")
    if problems:
        raise ConfigurationError(listed("the callers are invalid:", problems))
    return callers


def _permissions(settings: Any) -> frozenset[Permission]:
    allowed = ", ".join(Permission)
    names = settings.get("permissions") if isinstance(settings, dict) else None
    if not isinstance(names, list):
        unknown = next(iter(settings), "") if isinstance(settings, dict) else ""
        raise ValueError(
            f"must have a list `permissions` of {allowed}{did_you_mean(unknown, ['permissions'])}"
        )
    if len(settings) > 1:
        unknown = ", ".join(sorted(set(settings) - {"permissions"}))
        raise ValueError(f"{unknown}: no such setting; allowed: permissions")
    for name in names:
        if name not in tuple(Permission):
            near = did_you_mean(name, Permission) if isinstance(name, str) else ""
            raise ValueError(f"{shown(name)} is no permission; allowed: {allowed}{near}")
    return frozenset(Permission(name) for name in names)
