"""`scripts/mutate`: changes the code in small ways and checks that a test fails."""

from __future__ import annotations

import argparse
import re
import sys
import time
from pathlib import Path

from tests.mutation.operators import mutants
from tests.mutation.runner import preload, survivors

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "mutation.md"

TOKENS, CLIENT = "tests/unit/tokens", "tests/unit/client/_internal"
TESTS = {
    "tokens.verifier": [
        f"{TOKENS}/test_verifier.py",
        *(
            f"--deselect={TOKENS}/test_verifier.py::test_{name}"
            for name in (
                "notation_of_payload_does_not_change_the_result",
                "signed_claims_of_wrong_type_are_refused",
                "arbitrary_text_raises_only_invalid_token_error",
            )
        ),
    ],
    "tokens.revocation_set": [
        f"{TOKENS}/test_revocation_set.py",
        f"{TOKENS}/test_revocation.py",
        f"--deselect={TOKENS}/test_revocation_set.py::test_million_ids_load_in_blocks_of_their_buckets",
    ],
    "tokens.fingerprint_set": [
        f"{TOKENS}/test_fingerprint_set.py",
        f"--deselect={TOKENS}/test_fingerprint_set.py::test_million_ids_take_at_most_16_bytes_each",
        f"--deselect={TOKENS}/test_fingerprint_set.py::test_sets_of_every_size_find_their_members_only[100000]",
    ],
    "tokens.floor_map": [f"{TOKENS}/test_floor_map.py", f"{TOKENS}/test_revocation_set.py"],
    "client._internal.following.state": [
        f"{CLIENT}/test_follower_state.py",
        f"--deselect={CLIENT}/test_follower_state.py::TestNeverStale",
    ],
    "client._internal.local": [
        f"{CLIENT}/test_local.py",
        *(
            f"{CLIENT}/test_interleavings.py::test_{name}"
            for name in (
                "a_proof_that_arrives_during_a_check_does_not_prove_its_verdict[subject-seen]",
                "a_proof_that_arrives_during_a_check_does_not_prove_its_verdict[subject-never_seen]",
                "a_token_whose_entry_was_forgotten_during_a_check_is_not_accepted[seen]",
                "accepting_stale_counts_from_the_proof_of_the_set_that_was_looked_into[seen_before_another_entry]",
            )
        ),
    ],
}
"""The relevant tests of each module, as arguments of pytest."""


def main() -> int:
    """Run the modules; return 1 for a surviving unlisted mutant or a listed mutant that does not survive."""
    parser = argparse.ArgumentParser(prog="scripts/mutate", description=__doc__)
    parser.add_argument("modules", nargs="*", metavar="module", help=f"default: {' '.join(TESTS)}")
    parser.add_argument("--parallel", type=int, default=2, help="processes (default 2)")
    parser.add_argument("--only", default="", metavar="TEXT", help="only mutants whose name contains TEXT")
    arguments = parser.parse_args()
    for module in arguments.modules:
        if module not in TESTS:
            parser.error(f"no tests are known for {module}; choose from {' '.join(TESTS)}")
    preload()
    wrong = 0
    for module in arguments.modules or TESTS:
        wrong += _run(module, arguments.only, arguments.parallel)
    return 1 if wrong else 0


def _run(module: str, only: str, parallel: int) -> int:
    path = ROOT / "token_service" / f"{module.replace('.', '/')}.py"
    tests = TESTS[module]
    everything = list(mutants(path.read_text(encoding="utf-8")))
    chosen = [mutant for mutant in everything if only in mutant.name]
    listed = {name for of, name in equivalents() if of == module}
    wrong, began, live = 0, time.monotonic(), 0
    for done, (mutant, survived) in enumerate(
        survivors(f"token_service.{module}", path, chosen, tests, parallel=parallel), 1
    ):
        live += survived
        if survived and mutant.name not in listed:
            wrong += 1
            print(f"{path.relative_to(ROOT)}:{mutant.line}: survived: {mutant.name}", flush=True)
        elif not survived and mutant.name in listed:
            wrong += 1
            print(
                f"{PAGE.relative_to(ROOT)}: a test detects it, remove the line: {module} {mutant.name}",
                flush=True,
            )
        if done % 20 == 0 or done == len(chosen):
            print(
                f"mutate: {module}: {done} of {len(chosen)}, {live} survived, {time.monotonic() - began:.0f} s",
                file=sys.stderr,
                flush=True,
            )
    for name in sorted(listed - {mutant.name for mutant in everything}):
        wrong += 1
        print(f"{PAGE.relative_to(ROOT)}: no such mutant, remove the line: {module} {name}")
    return wrong


def equivalents() -> list[tuple[str, str]]:
    """Return module and name of the mutants in docs/mutation.md, each listed with a reason."""
    text = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    listed: list[tuple[str, str]] = []
    for section in re.split(r"^## ", text, flags=re.MULTILINE)[1:]:
        module = section.partition("\n")[0].strip("` ")
        listed += [(module, name) for name in re.findall(r"^- `(.+?)`: \S", section, flags=re.MULTILINE)]
    return listed


if __name__ == "__main__":
    sys.exit(main())
