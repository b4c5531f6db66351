"""The rules of the policy file: which signals count, how much, and which action follows from which score.

[risk]
dry_run = true
locations = ["/etc/token-service/GeoLite2-City.mmdb"]

[risk.rules.new_country]
weight = 40

[risk.rules.impossible_travel]
speed = 900

[risk.thresholds.default]
alert = 30
step_up = 60

[risk.thresholds.restricted]
alert = 20
revoke_session = 70
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, fields
from itertools import pairwise
from types import MappingProxyType
from typing import Any, Final, TypeAlias, TypeVar, cast

from token_service.core.policies.rates import Rate, parse_rate
from token_service.core.risk.signals import SIGNALS, Signal
from token_service.core.risk.verdict import ACTIONS, RiskAction
from token_service.durations import duration_text, parse_duration
from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed, shown

DEFAULT: Final = "default"
"""The thresholds of classifications that have none of their own."""

Thresholds: TypeAlias = Mapping[RiskAction, int]
"""The lowest score of each action. An action that is not named never follows."""

_BUILT_IN: Final[Thresholds] = MappingProxyType({RiskAction.ALERT: 30})
_TOP: Final = ("dry_run", "locations", "rules", "thresholds")
_KNOWN: Final = {signal.name: signal for signal in SIGNALS}
_NUMBERS: Final = {
    "weight": (1, 100),
    "part": (1, 100),
    "times": (1, 1000),
    "speed": (100, 100_000),
    "distance": (0, 20_000),
}
_SPANS: Final = {"window": (1, 86_400)}

_S = TypeVar("_S")


@dataclass(frozen=True, slots=True)
class RiskRules:
    """The rules in force. Without signals there is nothing to judge."""

    signals: tuple[Signal, ...] = ()
    thresholds: Mapping[str, Thresholds] = field(default_factory=dict)
    """By classification."""
    dry_run: bool = False
    """Whether verdicts are recorded and not carried out."""
    locations: tuple[str, ...] = ()
    """The paths of MaxMind files."""

    def action(self, classification: str, score: int) -> RiskAction:
        """Return the most severe action whose threshold the score reaches."""
        thresholds = self.thresholds.get(classification, self.thresholds.get(DEFAULT, _BUILT_IN))
        reached = [action for action, lowest in thresholds.items() if score >= lowest]
        return max(reached, key=lambda action: action.severity, default=RiskAction.NONE)

    def find(self, kind: type[_S]) -> _S | None:
        """Return the rule of a signal; None: it does not count."""
        return next((each for each in self.signals if isinstance(each, kind)), None)

    def __bool__(self) -> bool:
        """Tell whether there is anything to judge."""
        return bool(self.signals)


NO_RULES: Final = RiskRules()


def parse_risk_rules(document: Mapping[str, Any], classifications: Collection[str] = ()) -> RiskRules:
    """Return the rules in `[risk]` of a policy file.

    `classifications` are those that may have thresholds. Raises `ConfigurationError`, which lists every mistake.
    """
    if "risk" not in document:
        return NO_RULES
    problems: list[str] = []
    table = _table(document, "risk", "risk", problems)
    problems += [f"risk.{name}: {_unknown(name, _TOP)}" for name in sorted(set(table) - set(_TOP))]
    dry_run = table.get("dry_run", False)
    if not isinstance(dry_run, bool):
        problems.append(f"risk.dry_run: {shown(dry_run)} is neither true nor false")
    signals = []
    for name, settings in _table(table, "rules", "risk.rules", problems).items():
        kind = _KNOWN.get(name)
        if kind is None:
            problems.append(f"risk.rules.{name}: {_unknown(name, _KNOWN, 'signal')}")
        elif isinstance(settings, dict):
            signals.append(_signal(kind, settings, problems))
        else:
            problems.append(f"risk.rules.{name}: must be a table, such as {{ weight = 30 }}")
    thresholds = {}
    named = (DEFAULT, *sorted(classifications))
    for name, settings in _table(table, "thresholds", "risk.thresholds", problems).items():
        if name not in named:
            problems.append(f"risk.thresholds.{name}: {_unknown(name, named, 'classification')}")
        else:
            thresholds[name] = _thresholds(name, settings, problems)
    locations = _paths(table.get("locations", []), problems)
    if problems:
        raise ConfigurationError(listed("the rules about risk are invalid:", problems))
    order = list(_KNOWN)
    signals.sort(key=lambda signal: order.index(signal.name))
    return RiskRules(tuple(signals), thresholds, dry_run=dry_run is True, locations=locations)


def _signal(kind: type[Signal], settings: Mapping[str, Any], problems: list[str]) -> Signal:
    names = [each.name for each in fields(cast("Any", kind))]
    changes: dict[str, Any] = {}
    for name, value in settings.items():
        where = f"risk.rules.{kind.name}.{name}"
        if name not in names:
            problems.append(f"{where}: {_unknown(name, names)}")
            continue
        try:
            changes[name] = _PARSERS[name](name, value)
        except ValueError as error:
            problems.append(f"{where}: {shown(value)} {error}")
    return kind(**changes)


def _thresholds(name: str, settings: Any, problems: list[str]) -> Thresholds:
    where = f"risk.thresholds.{name}"
    if not isinstance(settings, dict):
        problems.append(f"{where}: must be a table, such as {{ alert = 30, refuse = 80 }}")
        return {}
    found: dict[RiskAction, int] = {}
    for action, value in settings.items():
        if action not in ACTIONS:
            problems.append(f"{where}.{action}: {_unknown(action, ACTIONS, 'action')}")
        elif not _is_whole(value) or not 1 <= value <= 100:
            problems.append(f"{where}.{action}: {shown(value)} is not a score from 1 to 100")
        else:
            found[RiskAction(action)] = value
    ordered = sorted(found, key=lambda action: action.severity)
    problems += [
        f"{where}.{more.value}: {found[more]} is below {less.value} = {found[less]}; a more severe action needs "
        f"a score at least as high"
        for less, more in pairwise(ordered)
        if found[more] < found[less]
    ]
    return found


def _paths(value: Any, problems: list[str]) -> tuple[str, ...]:
    if isinstance(value, list) and all(isinstance(each, str) and each for each in value):
        return tuple(value)
    problems.append(f"risk.locations: {shown(value)} is not a list of paths of MaxMind files")
    return ()


def _table(document: Mapping[str, Any], name: str, where: str, problems: list[str]) -> Mapping[str, Any]:
    table = document.get(name, {})
    if isinstance(table, dict):
        return table
    problems.append(f"{where}: must be a table")
    return {}


def _unknown(name: str, known: Collection[str], what: str = "setting") -> str:
    return f"no such {what}; allowed: {', '.join(known)}{did_you_mean(name, known)}"


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _number(name: str, value: Any) -> int:
    low, high = _NUMBERS[name]
    if not _is_whole(value) or not low <= value <= high:
        raise ValueError(f"is not a whole number from {low} to {high}")
    return int(value)


def _span(name: str, value: Any) -> int:
    low, high = _SPANS[name]
    problem = f'is not a span such as "5m", from {duration_text(low)} to {duration_text(high)}'
    try:
        seconds = parse_duration(value) if isinstance(value, str) else -1.0
    except ValueError:
        raise ValueError(problem) from None
    if not low <= seconds <= high or not seconds.is_integer():
        raise ValueError(problem)
    return int(seconds)


def _rate(_name: str, value: Any) -> Rate:
    try:
        return parse_rate(value)
    except ValueError:
        raise ValueError('is no rate such as "60/1m"') from None


_PARSERS: Final[Mapping[str, Callable[[str, Any], Any]]] = {
    **dict.fromkeys(_NUMBERS, _number),
    **dict.fromkeys(_SPANS, _span),
    "rate": _rate,
}
