"""A short run of the fuzzer: no mutated or hostile token is accepted that PyJWT refuses.

`scripts/faults fuzz` tries millions of tokens.
"""

from __future__ import annotations

import time

import pytest

from tests.faults.fuzz import Disagreement, Fuzz, Hostile


def test_short_fuzz_run_finds_no_disagreement_with_pyjwt() -> None:
    tally = Fuzz(seed=20261121).run(60_000)
    assert tally.tokens >= 60_000
    assert tally.accepted > 1000
    assert {
        "MALFORMED",
        "BAD_SIGNATURE",
        "UNKNOWN_KEY",
        "EXPIRED",
        "WRONG_ISSUER",
        "WRONG_TYPE",
        "TOO_LARGE",
    } <= set(tally.reasons)


def test_fuzz_reports_wrongly_accepted_and_differently_read_tokens(monkeypatch: pytest.MonkeyPatch) -> None:
    fuzz = Fuzz(seed=1)
    good = fuzz.mints[0].token(time.time() - 60)

    class Strange(str):
        __slots__ = ()

        def encode(self, *_: object) -> bytes:
            raise RuntimeError("out of the blue")

    for hostile, said in (
        (Hostile(good, refuse=True), "accepted: "),
        (Hostile(Strange("a.b.c")), "out of the blue"),
    ):
        monkeypatch.setattr(fuzz, "_tokens", lambda _count, hostile=hostile: [hostile])
        with pytest.raises(Disagreement, match=said):
            fuzz.run(1)
    monkeypatch.setattr(fuzz, "_tokens", lambda _count: [Hostile(good)])
    assert fuzz.run(1).accepted == 1
    for theirs, said in ((ValueError("refused"), "PyJWT says"), ({}, "read differently")):
        monkeypatch.setattr(fuzz, "_by_pyjwt", lambda _token, theirs=theirs: theirs)
        with pytest.raises(Disagreement, match=said):
            fuzz.run(1)
