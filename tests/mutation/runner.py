"""Runs tests against mutants: each in a process forked from one that has imported everything else."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

import pytest
from hypothesis import Phase, settings

from tests.mutation.operators import Mutant


class _Replacement:
    """Imports one module from a changed program."""

    def __init__(self, module: str, path: Path, tree: ast.Module) -> None:
        self._module = module
        self._path = path
        self._tree = tree

    def find_spec(
        self, name: str, path: object = None, target: object = None
    ) -> importlib.machinery.ModuleSpec | None:
        if name != self._module:
            return None
        return importlib.util.spec_from_file_location(name, self._path, loader=self)  # type: ignore[arg-type]

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        return None

    def exec_module(self, module: ModuleType) -> None:
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)  # the point of it


def preload() -> None:
    """Import what every test needs and no mutant changes."""
    for name in ("cryptography.hazmat.primitives.asymmetric.ec", "jwt", "grpc", "grpc.aio", "msgspec"):
        importlib.import_module(name)
    for path in sorted(Path("token_service/v1").glob("*_pb2*.py")):
        importlib.import_module(f"token_service.v1.{path.stem}")


def seconds_of(tests: Sequence[str]) -> float:
    """How long the tests take with the program as it is. Raises `RuntimeError` if they fail."""
    began = time.monotonic()
    _, status = os.waitpid(_fork(None, "", Path(), tests), 0)
    if os.waitstatus_to_exitcode(status) != pytest.ExitCode.OK:
        raise RuntimeError(f"the tests fail without a change: pytest {' '.join(tests)}")
    return time.monotonic() - began


def survivors(
    module: str, path: Path, changes: Iterable[Mutant], tests: Sequence[str], *, timeout: float, parallel: int
) -> Iterator[tuple[Mutant, bool]]:
    """Each mutant, in the order of their ends, and whether all tests pass with it.

    One that takes longer than `timeout` seconds was noticed: it hangs.
    """
    waiting, running = iter(changes), dict[int, tuple[Mutant, float]]()
    more = True
    try:
        while more or running:
            while more and len(running) < parallel:
                mutant = next(waiting, None)
                more = mutant is not None
                if mutant is not None:
                    running[_fork(mutant, module, path, tests)] = mutant, time.monotonic() + timeout
            for child, (mutant, deadline) in list(running.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if not done and time.monotonic() < deadline:
                    continue
                if not done:
                    os.killpg(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                del running[child]
                yield mutant, bool(done) and os.waitstatus_to_exitcode(status) == pytest.ExitCode.OK
            time.sleep(0.02)
    finally:
        for child in running:
            os.killpg(child, signal.SIGKILL)


def _fork(mutant: Mutant | None, module: str, path: Path, tests: Sequence[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
        # What fails need not be made small, nor remembered.
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile("mutants", database=None, phases=phases, report_multiple_bugs=False)
        settings.load_profile("mutants")
        if mutant is not None:
            sys.meta_path.insert(0, _Replacement(module, path.resolve(), mutant.tree))  # type: ignore[arg-type]
        options = [
            "-x",
            "-q",
            "-p",
            "no:cacheprovider",
            "--tb=no",
            "-W",
            "ignore::pytest.PytestAssertRewriteWarning",
            "--hypothesis-seed=0",
        ]
        code = int(pytest.main([*options, *tests]))
    finally:
        os._exit(code)
