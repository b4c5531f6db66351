"""Small changes to a program, one per mutant, each of which a test should detect."""

from __future__ import annotations

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
_ARITHMETIC: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.FloorDiv,
    ast.FloorDiv: ast.Mult,
    ast.Div: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
_CALLS = {"max": "min", "min": "max", "any": "all", "all": "any"}
_REMOVED = (ast.Expr, ast.Assign, ast.AugAssign, ast.Delete, ast.Raise)


@dataclass(frozen=True)
class Mutant:
    """A program with one change."""

    name: str
    """`Class.function: before -> after`; a number follows if the function has several mutants of this name."""
    line: int
    function: str
    """Qualified name of the enclosing function; else of the class, or `module`."""
    _source: str
    _node: int
    _change: int

    @property
    def tree(self) -> ast.Module:
        """The changed program."""
        tree = ast.parse(self._source)
        _change(_nodes(tree)[self._node], self._change, tree)
        return ast.fix_missing_locations(tree)


def mutants(source: str) -> Iterator[Mutant]:
    """Yield all changes of a program in source order."""
    names: Counter[str] = Counter()
    tree = ast.parse(source)
    places = _functions(tree)
    nodes = [(number, node) for number, node in enumerate(_nodes(tree)) if id(node) in places]
    for number, node in sorted(nodes, key=lambda pair: (pair[1].lineno, pair[1].col_offset)):
        before = _line(node)
        for change in range(_count(node)):
            after = _line(_change(copy.deepcopy(node), change, None))
            if before == after:
                continue
            name = f"{places[id(node)]}: {before} -> {after}"
            names[name] += 1
            if names[name] > 1:
                name += f" ({names[name]})"
            yield Mutant(name, node.lineno, places[id(node)], source, number, change)


def _nodes(tree: ast.Module) -> list[Any]:
    return [node for node in ast.walk(tree) if hasattr(node, "lineno")]


def _functions(tree: ast.Module) -> dict[int, str]:
    """Map each node of a function's body to the function; constants of a module map to the module."""
    places: dict[int, str] = {}

    def visit(node: ast.AST, place: str, *, code: bool) -> None:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            place = f"{place}.{node.name}".lstrip(".")
            code = not isinstance(node, ast.ClassDef)
            for child in node.body:
                visit(child, place, code=code)
            return
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return  # a docstring
        if isinstance(node, ast.Raise) and code:
            places[id(node)] = place
            return  # no behavior depends on the text of an error
        if isinstance(node, ast.AnnAssign):
            if node.value is not None:
                visit(node.value, place, code=True)
            return
        if isinstance(node, ast.Assert):
            return  # narrows a type
        if code:
            places[id(node)] = place or "module"
        for part in ast.iter_child_nodes(node):
            visit(part, place, code=code)

    for child in tree.body:
        visit(child, "", code=False)
    return places


def _count(node: ast.AST) -> int:
    """Return the number of possible changes to a node."""
    match node:
        case ast.Compare(ops=ops):
            return len(ops)
        case ast.BoolOp(values=values):
            return 1 + len(values)
        case ast.BinOp(op=op) if type(op) in _ARITHMETIC:
            return 1
        case ast.UnaryOp(op=ast.Not() | ast.USub()):
            return 1
        case ast.Constant(value=bool() | int() | float()):
            return 1
        case ast.Call(func=ast.Name(id=name)) if name in _CALLS:
            return 1
        case ast.If() | ast.IfExp():
            return 2
        case ast.Return(value=value) if value is not None and not _is_none(value):
            return 1
        case ast.Break() | ast.Continue():
            return 1
        case _ if isinstance(node, _REMOVED):
            return 1
    return 0


def _change(node: Any, change: int, tree: ast.Module | None) -> ast.AST:
    """Change a node in place, or replace it in the tree, and return the resulting node."""
    match node:
        case ast.Compare():
            node.ops[change] = _COMPARISONS[type(node.ops[change])]()
        case ast.BoolOp() if change == 0:
            node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        case ast.BoolOp():
            del node.values[change - 1]
            if len(node.values) == 1:
                return _replace(tree, node, node.values[0])
        case ast.BinOp():
            node.op = _ARITHMETIC[type(node.op)]()
        case ast.UnaryOp():
            return _replace(tree, node, node.operand)
        case ast.Constant(value=bool() as value):
            node.value = not value
        case ast.Constant(value=int() | float() as value):
            node.value = value + 1
        case ast.Call(func=ast.Name(id=name) as function):
            function.id = _CALLS[name]
        case ast.If() | ast.IfExp():
            node.test = ast.copy_location(ast.Constant(change == 0), node.test)
        case ast.Return():
            node.value = ast.copy_location(ast.Constant(None), node)
        case ast.Break() | ast.Continue():
            return _replace(tree, node, ast.Continue() if isinstance(node, ast.Break) else ast.Break())
        case _:
            return _replace(tree, node, ast.Pass())
    return node


def _replace(tree: ast.Module | None, old: ast.AST, new: ast.AST) -> ast.AST:
    ast.copy_location(new, old)
    for parent in ast.walk(tree) if tree is not None else ():
        for field, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, field, new)
            elif isinstance(value, list) and any(item is old for item in value):
                setattr(parent, field, [new if item is old else item for item in value])
    return new


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _line(node: ast.AST) -> str:
    """Return a node's first line, which is enough to identify it."""
    return ast.unparse(node).partition("\n")[0]
