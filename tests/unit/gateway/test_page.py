"""docs/reference/gateway.md lists every key of the configuration, and the files of docs/gateways.md are good."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from token_service.gateway import settings
from token_service.gateway.loading import load
from token_service.gateway.routes import KEYS

DOCS = Path(__file__).parents[3] / "docs"
PAGE = (DOCS / "gateways.md").read_text(encoding="utf-8")
REFERENCE = (DOCS / "reference" / "gateway.md").read_text(encoding="utf-8")
TABLES = {
    "Listen": "listen",
    "Issuer": "issuer",
    "ForeignIssuer": "[foreign_issuers]",
    "Tokens": "tokens",
    "Route": "routes.NAME",
    "Identity": "identity",
    "Responses": "responses",
    "Http": "http",
    "Paths": "paths",
    "Proofs": "proofs",
    "Resource": "resource",
    "Limits": "limits",
    "Reload": "reload",
}
FILES = re.findall(r"```toml\n(.*?)```", PAGE, re.DOTALL)


def rows(name: str) -> Iterator[str]:
    """Yield the rows of a table: key, default, description."""
    kind = getattr(settings, name)
    defaults = {field.name: field for field in msgspec.structs.fields(kind)}
    body = ast.parse(inspect.getsource(kind)).body[0].body  # type: ignore[attr-defined]
    for node, text in pairwise(body):
        if not isinstance(node, ast.AnnAssign):
            continue
        assert isinstance(node.target, ast.Name)
        key = node.target.id
        field = defaults[key]
        value = field.default
        if field.default_factory is not msgspec.NODEFAULT:
            value = field.default_factory()
        default = "required" if value is msgspec.NODEFAULT else "" if value is None else f"`{toml(value)}`"
        yield f"| `{key}` | {default} | {' '.join(text.value.value.split())} |"


def toml(value: object) -> str:
    if isinstance(value, tuple):
        return "[]"
    return (
        {True: "true", False: "false"}[value]
        if isinstance(value, bool)
        else str(value)
        if isinstance(value, int | float)
        else "{}"
        if isinstance(value, dict)
        else f'"{value}"'
    )


@pytest.mark.parametrize("name", TABLES)
def test_every_key_is_listed_with_its_default(name: str) -> None:
    section = f"**`[{TABLES[name]}]`**"
    table = [section, "", "| key | default | |", "| --- | --- | --- |", *rows(name)]
    assert "\n".join(table) in REFERENCE, "put this on the page:\n" + "\n".join(table)


def test_tables_are_those_of_the_settings() -> None:
    assert len(TABLES) == len(msgspec.structs.fields(settings.Settings))


def test_keys_of_a_proxy_are_listed() -> None:
    (line,) = [line for line in PAGE.splitlines() if line.startswith("The keys are ")]
    assert set(re.findall(r"`(\w+)`", line)) == KEYS


@pytest.mark.parametrize("text", FILES)
def test_files_of_the_page_are_good(text: str, tmp_path: Path) -> None:
    path = tmp_path / "gateway.toml"
    path.write_text(text)
    (tmp_path / "nonce.keys").write_text("ab" * 32)
    load(path)


def test_page_has_files() -> None:
    assert len(FILES) >= 2
