"""Exports of `token_service.client` are documented and include the types that their signatures name."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from token_service import client, errors

ROOT = Path(__file__).resolve().parents[3]
OURS = re.compile(r"token_service\.(?!v1\.)")  # the generated messages have their own public package
WORD = re.compile(r"[A-Za-z_][A-Za-z_0-9]*")


def callables_of(value: object) -> list[object]:
    """Yield the object itself and, for a class, its public methods, properties and constructor."""
    if not inspect.isclass(value):
        return [value]
    found: list[object] = []
    for name, member in vars(value).items():
        if name.startswith("_") and name != "__init__":
            continue
        function = member.fget if isinstance(member, property) else getattr(member, "__func__", member)
        if inspect.isfunction(function):
            found.append(function)
    return found


def types_named(value: object) -> set[str]:
    """Return types of this package in the annotations, resolved in their own module."""
    found: set[str] = set()
    for function in [value, *callables_of(value)]:
        names = vars(inspect.getmodule(function))
        for variable, annotation in getattr(function, "__annotations__", {}).items():
            if variable.startswith("_"):
                continue
            for word in WORD.findall(str(annotation)):
                module = getattr(names.get(word), "__module__", "")
                if inspect.isclass(names.get(word)) and OURS.match(module):
                    found.add(word)
    return found


@pytest.mark.parametrize("name", client.__all__)
def test_public_name_has_its_own_docstring(name: str) -> None:
    value = getattr(client, name)
    assert vars(value).get("__doc__") if inspect.isclass(value) else value.__doc__


@pytest.mark.parametrize("name", client.__all__)
def test_public_signature_names_only_exported_types(name: str) -> None:
    assert types_named(getattr(client, name)) - set(client.__all__) == set()


def test_every_error_is_exported() -> None:
    names = {
        name for name, value in vars(errors).items() if getattr(value, "__module__", "") == errors.__name__
    }
    assert names <= set(client.__all__)


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda page: page.name
)
def test_documented_examples_import_from_the_client_alone(page: Path) -> None:
    inner = re.compile(r"token_service\.(client\._internal|tokens|errors)\b")
    lines = [line for line in page.read_text(encoding="utf-8").splitlines() if " import " in line]
    assert [line for line in lines if inner.search(line)] == []
