"""`token_service.client` has every name a user needs, with a docstring and annotations that users can import."""

from __future__ import annotations

import inspect
import re
from pathlib import Path
from typing import Any

import pytest

from token_service import client

ROOT = Path(__file__).resolve().parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_TYPE = re.compile(r"\b[A-Z][A-Za-z]+\b")


def public(value: Any) -> list[tuple[str, Any]]:
    """A name and, for a class, its public methods and properties."""
    if not inspect.isclass(value):
        return [(value.__name__, value)]
    members = [(name, member) for name, member in vars(value).items() if not name.startswith("_")]
    return [(value.__name__, value)] + [
        (f"{value.__name__}.{name}", member.fget if isinstance(member, property) else member)
        for name, member in members
        if inspect.isfunction(member) or isinstance(member, property)
    ]


@pytest.mark.parametrize("name", client.__all__)
def test_public_name_has_a_docstring(name: str) -> None:
    value = getattr(client, name)
    assert inspect.getdoc(value)
    for where, member in public(value):
        assert inspect.getdoc(member), where


@pytest.mark.parametrize("name", client.__all__)
def test_annotations_name_types_that_users_can_import(name: str) -> None:
    """A type of ours in a public signature is a public name, or one of its modules that users see anyway."""
    value = getattr(client, name)
    for where, member in public(value):
        module = inspect.getmodule(member)
        for parameter, annotation in getattr(member, "__annotations__", {}).items():
            if parameter.startswith("_"):
                continue
            for word in _TYPE.findall(str(annotation)):
                kind = getattr(module, word, None)
                if inspect.isclass(kind) and kind.__module__.startswith("token_service."):
                    assert word in client.__all__, f"{where}({parameter}: {annotation})"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_import_from_the_client_package_alone(page: Path) -> None:
    imports = re.findall(r"^ *(?:from|import) (token_service[\w.]*)", page.read_text(), re.MULTILINE)
    assert {name for name in imports if name != "token_service.client"} <= {
        "token_service.v1",
        "token_service.v1.token_service_pb2",
        "token_service.v1.token_service_pb2_grpc",
    }
