"""The changes that `scripts/mutate` makes, and the page of those that no test can notice."""

from __future__ import annotations

from tests.mutation.__main__ import ROOT, TESTS, equivalents
from tests.mutation.operators import mutants


def test_one_change_at_a_time() -> None:
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


def test_every_listed_change_is_one_that_is_made() -> None:
    made = {
        (module, mutant.name)
        for module in TESTS
        for mutant in mutants(
            (ROOT / "token_service" / f"{module.replace('.', '/')}.py").read_text(encoding="utf-8")
        )
    }
    assert equivalents()
    assert set(equivalents()) <= made
