"""Overrides of the policy file: settings of classifications that operators change in the database.

A path is `<classification>.<setting>`. A value has the notation of the policy file (TOML): `"5m"`, `true`, `["roles"]`,
`{ issue_per_client = "1000/1m" }`. Defaults, file, environment and overrides apply in this order.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from token_service.core.policies.policy import (
    SETTINGS,
    SPANS,
    Policy,
    PolicyBook,
    Source,
    contradictions,
    parse_setting,
)
from token_service.durations import duration_text
from token_service.errors import ConfigurationError
from token_service.suggestions import did_you_mean, listed


@dataclass(frozen=True, slots=True)
class PolicyValue:
    """One setting of a classification."""

    path: str
    value: str
    """In the notation of the policy file."""
    source: Source


@dataclass(frozen=True, slots=True)
class PolicyDifference:
    """A setting that differs between two books. A value is empty if the book lacks the classification."""

    path: str
    before: str
    after: str


def with_overrides(book: PolicyBook, overrides: Mapping[str, str]) -> PolicyBook:
    """Return a book with the overrides over its settings. Raises `ConfigurationError`, which lists every mistake."""
    if not overrides:
        return book
    policies, sources = dict(book.policies), dict(book.sources)
    problems: list[str] = []
    for path, text in overrides.items():
        classification, _, name = path.rpartition(".")
        try:
            if classification not in policies:
                raise ValueError(_no_classification(classification, policies))
            changed = {name: parse_override(name, text)}
        except ValueError as error:
            problems.append(f"{path}: {error}")
            continue
        policies[classification] = replace(policies[classification], **changed)
        sources[path] = Source.OVERRIDE
    problems += contradictions(policies)
    if problems:
        raise ConfigurationError(listed("the overrides of the policies are invalid:", problems))
    return replace(book, policies=policies, sources=sources)


def canonical(path: str, text: str, book: PolicyBook) -> str:
    """Return an override as it is stored. Raises `ValueError` if the book lacks its classification, or for a wrong value."""
    classification, dot, name = path.rpartition(".")
    if not dot:
        raise ValueError("is not CLASSIFICATION.SETTING")
    if classification not in book.policies:
        raise ValueError(_no_classification(classification, book.policies))
    return notation(name, parse_override(name, text))


def parse_override(name: str, text: str) -> Any:
    """Return the value of a setting from the notation of the policy file. Raises `ValueError`."""
    if name not in SETTINGS:
        return parse_setting(name, text)  # says so
    try:
        document = tomllib.loads(f"value = {text}")
    except (ValueError, RecursionError):
        document = {}
    if document.keys() != {"value"}:
        raise ValueError(
            'is not one value in the notation of the policy file, such as "5m", true or ["roles"]'
        )
    return parse_setting(name, document["value"])


def notation(name: str, value: Any) -> str:
    """Return the value of a setting in the notation of the policy file, on one line."""
    if name in SPANS:
        return _text(duration_text(value))
    if name == "rates":
        rates = ", ".join(
            f"{operation}_per_{bucket} = {_text(str(rate))}"
            for (operation, bucket), rate in sorted(value.items())
        )
        return f"{{ {rates} }}" if rates else "{}"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, tuple):
        return f"[{', '.join(map(_text, value))}]"
    return str(value) if isinstance(value, int) else _text(value)


def values_of(book: PolicyBook) -> Sequence[PolicyValue]:
    """Return the settings of all classifications of a book, by their paths."""
    return [
        PolicyValue(path, value, book.sources.get(path, Source.DEFAULT))
        for path, value in _notations(book).items()
    ]


def differences(before: PolicyBook, after: PolicyBook) -> Iterator[PolicyDifference]:
    """Yield the settings that differ between two books, by their paths."""
    for classification in sorted({**before.policies, **after.policies}):
        old, new = before.policies.get(classification), after.policies.get(classification)
        for name in sorted(SETTINGS):
            values = [None if policy is None else getattr(policy, name) for policy in (old, new)]
            if values[0] != values[1]:
                texts = ("" if value is None else notation(name, value) for value in values)
                yield PolicyDifference(f"{classification}.{name}", *texts)


def _notations(book: PolicyBook) -> dict[str, str]:
    return {
        f"{classification}.{name}": notation(name, getattr(policy, name))
        for classification, policy in sorted(book.policies.items())
        for name in SETTINGS
    }


def _text(text: str) -> str:
    # A basic string of TOML differs from a string of JSON in the delete character only.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def _no_classification(name: str, policies: Mapping[str, Policy]) -> str:
    return f"no classification {name!r}; known: {', '.join(sorted(policies))}{did_you_mean(name, policies)}"
