"""The mutants of `scripts/mutate`, and the page of equivalent mutants, which no test can detect."""

from __future__ import annotations

from pathlib import Path

from tests.mutation.__main__ import ROOT, TESTS, equivalents
from tests.mutation.operators import mutants
from tests.mutation.runner import code_of


def test_each_mutant_has_one_change() -> None:
    source = "def f(a, b):\n    'Text.'\n    if a < b and not a:\n        return max(a, 1)\n    raise ValueError('no')\n"
    assert {mutant.name for mutant in mutants(source)} == {
        "f: if a < b and (not a): -> if True:",
        "f: if a < b and (not a): -> if False:",
        "f: a < b and (not a) -> a < b or not a",
        "f: a < b and (not a) -> not a",
        "f: a < b and (not a) -> a < b",
        "f: a < b -> a <= b",
        "f: not a -> a",
        "f: return max(a, 1) -> return None",
        "f: max(a, 1) -> min(a, 1)",
        "f: 1 -> 2",
        "f: raise ValueError('no') -> pass",
    }


def test_mutant_names_the_changed_function() -> None:
    source = "LIMIT: int = 1\nclass C:\n    size: int = 2\n    def f(self):\n        return [x for x in self.g(3)]\n"
    changes = list(mutants(source))
    assert [change.function for change in changes] == ["module", "C", "C.f", "C.f"]
    for change in changes[2:]:
        code = code_of(change, Path("c.py"))
        assert (code.co_qualname, code.co_freevars) == ("C.f", ())
    assert 4 in code_of(changes[3], Path("c.py")).co_consts


def test_every_listed_equivalent_is_a_mutant() -> None:
    made = {
        (module, mutant.name)
        for module in TESTS
        for mutant in mutants(
            (ROOT / "token_service" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        )
    }
    assert equivalents()
    assert set(equivalents()) <= made
