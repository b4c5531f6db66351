"""The reference of the client library, made from its signatures and docstrings."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import inspect
import re
import sys
from pathlib import Path
from typing import Any

from token_service import client

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reference" / "client.md"
_INTRODUCTION = """\
# Reference: token_service.client

`scripts/gen-reference` writes this page. Import every name from `token_service.client`.
"""


def reference() -> str:
    """Return the page."""
    parts = [_INTRODUCTION]
    for name in client.__all__:
        value = getattr(client, name)
        parts += _described(name, value) if inspect.isclass(value) else _function(f"## {name}", name, value)
    return "\n".join(parts)


def _described(name: str, kind: type) -> list[str]:
    parts = [f"## {name}\n"]
    if issubclass(kind, enum.Enum):
        parts.append(_text(kind) + "\n")
        return [*parts, *(f"- `{member.name}`" for member in kind), ""]
    if not issubclass(kind, BaseException):
        parts.append(f"```text\n{_signature(name, kind)}\n```\n")
    parts.append(_text(kind) + "\n")
    initializer = vars(kind).get("__init__")
    if initializer is not None and not dataclasses.is_dataclass(kind) and initializer.__doc__:
        parts.append(_text(initializer) + "\n")
    for member_name, member in vars(kind).items():
        if member_name.startswith("_"):
            continue
        if isinstance(member, property) and member.fget is not None:
            parts += [f"### {name}.{member_name}\n", _text(member.fget) + "\n"]
        elif isinstance(member, classmethod | staticmethod):
            parts += _function(f"### {name}.{member_name}", member_name, member.__func__)
        elif inspect.isfunction(member):
            parts += _function(f"### {name}.{member_name}", member_name, member)
    return parts


def _function(heading: str, name: str, value: Any) -> list[str]:
    prefix = "async " if inspect.iscoroutinefunction(value) else ""
    return [f"{heading}\n", f"```text\n{prefix}{_signature(name, value)}\n```\n", _text(value) + "\n"]


def _signature(name: str, value: Any) -> str:
    signature = inspect.signature(value)
    text = _plain(f"{name}{signature}")
    if len(text) < 110:
        return text
    separators = _separators(signature)
    lines = [f"    {mark}{_plain(str(each))}," for mark, each in separators]
    end = _plain(str(signature.replace(parameters=[])))[1:]
    return "\n".join([f"{name}(", *lines, end])


def _separators(signature: inspect.Signature) -> list[tuple[str, inspect.Parameter]]:
    """Pair each parameter with its mark: `*, ` for the first keyword-only parameter."""
    marked = []
    seen = False
    for each in signature.parameters.values():
        first = each.kind is each.KEYWORD_ONLY and not seen
        seen |= first
        marked.append(("*, " if first else "", each))
    return marked


def _plain(text: str) -> str:
    """Return a signature without the quotes of annotations and the addresses of defaults."""
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", text)
    text = re.sub(r"<(\w+\.\w+): [^>]*>", r"\1", text)
    text = re.sub(r"\{([^{}]*)\}", lambda found: f"{{{', '.join(sorted(found[1].split(', ')))}}}", text)
    return re.sub(r"<(?:function|built-in function|class) '?([\w.]+)[^>]*>", r"\1", text)


def _text(value: Any) -> str:
    """Return the docstring in the code itself, without one that Python adds."""
    return inspect.cleandoc(value.__doc__ or "")


def main() -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(prog="scripts/gen-reference", description=__doc__)
    parser.add_argument("--out", type=Path, default=PAGE)
    out: Path = parser.parse_args().out
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(reference())
    return 0


if __name__ == "__main__":
    sys.exit(main())
