"""YAML for the files of Prometheus, with block style for maps and lists."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

_PLAIN: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_:./-]*(?<!:)")
_WORDS: Final = frozenset("true false yes no on off null y n".split())
_NUMBER_AND_UNIT: Final = re.compile(r"[0-9]+(?:ms|[smhd])")


def text(value: Mapping[str, Any]) -> str:
    """Return a document."""
    return "\n".join(_map(value, "")) + "\n"


def _map(value: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, each in value.items():
        yield from _entry(f"{indent}{_scalar(key)}:", each, f"{indent}  ")


def _entry(head: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Mapping) and value:
        yield head
        yield from _map(value, indent)
    elif isinstance(value, list) and value:
        yield head
        yield from _list(value, indent)
    else:
        yield f"{head} {_scalar(value)}"


def _list(values: Sequence[Any], indent: str) -> Iterator[str]:
    for value in values:
        if isinstance(value, Mapping) and value:
            first, *rest = _map(value, f"{indent}  ")
            yield f"{indent}- {first.strip()}"
            yield from rest
        else:
            yield f"{indent}- {_scalar(value)}"


def _scalar(value: Any) -> str:
    if not isinstance(value, str):
        return json.dumps(value)
    is_plain = _PLAIN.fullmatch(value) or _NUMBER_AND_UNIT.fullmatch(value)
    if is_plain and value.lower() not in _WORDS:
        return value
    if value.isprintable():  # queries have double quotes
        return "'" + value.replace("'", "''") + "'"
    return json.dumps(value, ensure_ascii=False)  # a string of JSON is a string of YAML
