"""The callers of a policy file, their rights and their rates."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from token_service.core.access.names import problem_of_pattern
from token_service.core.access.rights import Rights
from token_service.core.policies.rates import CallerRates, parse_caller_rates
from token_service.core.policies.rights import MUST_BE_BOUNDED, Right, parse_permissions, parse_rights
from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed

_KNOWN = ("permissions", "rights", "unbounded", "rates")


def parse_callers(document: Mapping[str, Any], *, unbounded_issue: bool = True) -> dict[str, Rights]:
    """Return the rights of callers by the name that they prove (a SPIFFE ID or a DNS name).

        [callers."spiffe://example.org/gateway"]
        permissions = ["validate", "subscribe"]
        rates = { validate_opaque = "1000/1s" }

        [[callers."spiffe://example.org/login".rights]]
        permission = "issue"
        clients = ["web"]

    Without `unbounded_issue`, `permissions = ["issue"]` and `["exchange"]` need `unbounded = true` beside them. Raises
    `ConfigurationError`, which lists every mistake.
    """
    table = document.get("callers", {})
    if not isinstance(table, dict):
        raise ConfigurationError("callers: must be a table")
    callers: dict[str, Rights] = {}
    problems: list[str] = []
    for identity, settings in table.items():
        problem = problem_of_pattern(identity)
        if problem is not None:
            problems.append(f"callers.{identity}: {problem}")
            continue
        try:
            rights = _rights(settings, unbounded_issue=unbounded_issue)
            callers[identity] = Rights(rights, _rates(settings))
        except ConfigurationError as error:
            problems.append(f"callers.{identity}: {error.message}")
        except ValueError as error:
            problems.append(f"callers.{identity}: {error}")
    if problems:
        raise ConfigurationError(listed("the callers are invalid:", problems))
    return callers


def _rates(settings: Mapping[str, Any]) -> CallerRates:
    try:
        return parse_caller_rates(settings.get("rates", {}))
    except ValueError as error:
        raise ValueError(f"rates: {error}") from None


def _rights(settings: Any, *, unbounded_issue: bool) -> tuple[Right, ...]:
    if not isinstance(settings, dict) or not {"permissions", "rights"} & set(settings):
        unknown = next(iter(settings), "") if isinstance(settings, dict) else ""
        raise ValueError(f"must have a list `permissions` or `rights`{did_you_mean(unknown, _KNOWN)}")
    unknown = ", ".join(sorted(set(settings) - set(_KNOWN)))
    if unknown:
        raise ValueError(f"{unknown}: no such setting; allowed: {', '.join(_KNOWN)}")
    unbounded = settings.get("unbounded", unbounded_issue)
    if not isinstance(unbounded, bool):
        raise ValueError("unbounded: is neither true nor false")
    permissions = parse_permissions(settings.get("permissions", []))
    dangerous = [right.permission for right in permissions if right.permission in MUST_BE_BOUNDED]
    if dangerous and not unbounded:
        name = dangerous[0]
        raise ValueError(
            f"permissions: `{name}` without bounds gives tokens for any client; name its bounds in a table "
            f'[[callers."…".rights]] with permission = "{name}", or write unbounded = true'
        )
    return (*permissions, *parse_rights(settings.get("rights", [])))
