"""The rules by which the service revokes by itself: `[automatic_revocation]` of the policy file.

    [automatic_revocation.classifications.restricted]
    max_session_age = "8h"
    max_inactivity = "30m"
    on_classification_change = true

    [automatic_revocation.thresholds.stolen]
    actions = ["refresh_token.reused"]
    count = 3
    window = "10m"
    per = "subject"
    revoke = "subject"

This module does no I/O.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from token_service.core.events.event import Action
from token_service.core.policies.policy import DAY, MAX_SESSION_TTL, MINUTE, PolicyBook
from token_service.durations import parse_duration
from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed, shown

MAX_THRESHOLDS: Final = 100
MAX_COUNT: Final = 1000
"""The largest count of a threshold: twice as many events are read when one is checked."""
MAX_WINDOW: Final = 7 * DAY
MAX_RATE: Final = 60_000
_NAME: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}", re.ASCII)


class Cause(StrEnum):
    """Why a rule revoked, as the audit trail says it."""

    AGE = "age"
    INACTIVITY = "inactivity"
    CLASSIFICATION = "classification"
    THRESHOLD = "threshold"


class Scope(StrEnum):
    """What a threshold counts by, and what it revokes."""

    SESSION = "session"
    SUBJECT = "subject"
    CLIENT = "client"
    """Revoked: the client is disabled, which revokes its tokens."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionLimits:
    """The limits on the sessions of one classification. Times are in seconds; None: no limit."""

    max_session_age: int | None = None
    max_inactivity: int | None = None
    on_classification_change: bool = False
    """Whether a session is revoked whose client has got this classification, a stricter one than at its login."""

    def __bool__(self) -> bool:
        """Return whether there is any limit."""
        return self != _NO_LIMITS


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """Revoke when so many events of one session, subject or client happen within a window."""

    name: str
    actions: frozenset[str]
    count: int
    window: int
    """Seconds."""
    per: Scope
    revoke: Scope
    """The session, the subject or the client of the event that reaches the count."""
    dry_run: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AutomaticRules:
    """All rules."""

    limits: Mapping[str, SessionLimits] = field(default_factory=dict)
    """By classification. One that is not named has no limits."""
    thresholds: Mapping[str, Threshold] = field(default_factory=dict)
    interval: int = MINUTE
    """Seconds between two looks at all sessions."""
    sessions_per_minute: int = 6000
    """Sessions that are revoked at most by limits."""
    dry_run: bool = False
    """Whether limits only count and log the sessions that they would revoke."""


_NO_LIMITS: Final = SessionLimits()
NO_RULES: Final = AutomaticRules()

_Parse = Callable[[Any], Any]


def parse_automatic_rules(document: Mapping[str, Any], book: PolicyBook) -> AutomaticRules:
    """Return the rules of a parsed policy file. Raises `ConfigurationError`, which lists every mistake."""
    problems: list[str] = []
    table = _table(document, "automatic_revocation", problems)
    parsers: dict[str, _Parse] = {
        "interval": _span(1, DAY),
        "sessions_per_minute": _whole(1, MAX_RATE),
        "dry_run": _flag,
    }
    tables = ("classifications", "thresholds")
    own = {name: value for name, value in table.items() if name not in tables}
    found = _settings("automatic_revocation", own, parsers, problems, more=tables)
    place = "automatic_revocation.classifications"
    limits = {}
    for name, settings in _table(table, "classifications", problems, place).items():
        if name not in book.policies:
            problems.append(f"{place}.{name}: no such classification{did_you_mean(name, book.policies)}")
            continue
        limits[name] = SessionLimits(**_settings(f"{place}.{name}", settings, _LIMITS, problems))
    place = "automatic_revocation.thresholds"
    thresholds = {}
    rules = _table(table, "thresholds", problems, place)
    if len(rules) > MAX_THRESHOLDS:
        problems.append(f"{place}: has more than {MAX_THRESHOLDS} rules")
    for name, settings in rules.items():
        if (rule := _threshold(f"{place}.{name}", name, settings, problems)) is not None:
            thresholds[name] = rule
    if problems:
        raise ConfigurationError(listed("the rules of automatic revocation are invalid:", problems))
    return AutomaticRules(limits=limits, thresholds=thresholds, **found)


def _threshold(place: str, name: str, settings: Any, problems: list[str]) -> Threshold | None:
    if _NAME.fullmatch(name) is None:
        problems.append(f"{place}: a name has up to 63 lower-case letters, digits, - and _")
        return None
    before = len(problems)
    found = _settings(place, settings, _THRESHOLD, problems)
    missing = [each for each in _THRESHOLD if each not in {*found, "dry_run"}]
    if len(problems) == before and missing:
        problems.append(f"{place}: needs {', '.join(missing)}")
    return Threshold(name=name, **found) if len(problems) == before else None


def _settings(
    place: str,
    settings: Any,
    parsers: Mapping[str, _Parse],
    problems: list[str],
    *,
    more: tuple[str, ...] = (),
) -> dict[str, Any]:
    if not isinstance(settings, dict):
        problems.append(f"{place}: must be a table")
        return {}
    found = {}
    for name, value in settings.items():
        if name not in parsers:
            allowed = (*parsers, *more)
            problems.append(
                f"{place}.{name}: no such setting; allowed: {', '.join(allowed)}{did_you_mean(name, allowed)}"
            )
            continue
        try:
            found[name] = parsers[name](value)
        except ValueError as error:
            problems.append(f"{place}.{name}: {shown(value)} {error}")
    return found


def _table(document: Mapping[str, Any], name: str, problems: list[str], place: str = "") -> Mapping[str, Any]:
    table = document.get(name, {})
    if isinstance(table, dict):
        return table
    problems.append(f"{place or name}: must be a table")
    return {}


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("is neither true nor false")
    return value


def _span(low: int, high: int) -> _Parse:
    def parse(value: Any) -> int:
        try:
            seconds = parse_duration(value) if isinstance(value, str) else -1.0
        except ValueError:
            seconds = -1.0
        if not seconds.is_integer() or not low <= seconds <= high:
            raise ValueError(f'is not a span like "90s", "15m", "8h", "7d" from {low} s to {high} s')
        return int(seconds)

    return parse


def _whole(low: int, high: int) -> _Parse:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            raise ValueError(f"is not a whole number from {low} to {high}")
        return value

    return parse


def _scope(value: Any) -> Scope:
    if value not in tuple(Scope):
        raise ValueError(f"is none of {', '.join(Scope)}")
    return Scope(value)


def _actions(value: Any) -> frozenset[str]:
    known = {each.value for each in Action if each.category is not _ROUTINE}
    if not isinstance(value, list) or not value or not set(map(str, value)) <= known:
        raise ValueError(f"is not a list of actions; allowed: {', '.join(sorted(known))}")
    return frozenset(value)


_ROUTINE: Final = Action.TOKEN_ISSUED.category
"""The category whose events the event log does not have."""
_LIMITS: Final[Mapping[str, _Parse]] = {
    "max_session_age": _span(1, MAX_SESSION_TTL),
    "max_inactivity": _span(1, MAX_SESSION_TTL),
    "on_classification_change": _flag,
}
_THRESHOLD: Final[Mapping[str, _Parse]] = {
    "actions": _actions,
    "count": _whole(1, MAX_COUNT),
    "window": _span(1, MAX_WINDOW),
    "per": _scope,
    "revoke": _scope,
    "dry_run": _flag,
}
