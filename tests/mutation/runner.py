"""Runs tests against mutants, each in a process forked from one that has imported everything else."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import resource
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from types import CodeType, FunctionType, ModuleType

import pytest
from hypothesis import Phase, settings

from tests.mutation.operators import Mutant

_MEMORY = 4 << 30  # bytes, for a mutant that would fill the memory
_LONGEST = 120.0  # seconds of the tests with a change outside of functions


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
        exec(compile(self._tree, str(self._path), "exec"), module.__dict__)  # runs the changed program


def preload() -> None:
    """Import the modules that every test needs and no mutant changes."""
    for name in ("cryptography.hazmat.primitives.asymmetric.ec", "jwt", "grpc", "grpc.aio", "msgspec"):
        importlib.import_module(name)
    for path in sorted(Path("token_service/v1").glob("*_pb2*.py")):
        importlib.import_module(f"token_service.v1.{path.stem}")


def survivors(
    module: str, path: Path, changes: Sequence[Mutant], tests: Sequence[str], *, parallel: int
) -> Iterator[tuple[Mutant, bool]]:
    """Yield each mutant, in order of completion, and whether all tests pass with it.

    A mutant whose tests take several times longer than without a change hangs and counts as detected. Raise
    `RuntimeError` if the tests fail without a change.
    """
    reader, writer = os.pipe()
    host = _fork(tests, [_Host(module, path, changes, parallel, writer)])
    os.close(writer)
    waiting = dict(enumerate(changes))
    with os.fdopen(reader, encoding="ascii") as lines:
        for line in lines:
            number, survived = line.split()
            yield waiting.pop(int(number)), survived == "True"
    _, status = os.waitpid(host, 0)
    if os.waitstatus_to_exitcode(status) != pytest.ExitCode.OK:
        raise RuntimeError(f"the tests fail without a change: pytest {' '.join(tests)}")

    def start(mutant: Mutant) -> int:
        sys.meta_path.insert(0, _Replacement(module, path.resolve(), mutant.tree))
        try:
            return _fork(tests)
        finally:
            del sys.meta_path[0]

    for key, outlived in _outcomes(start, waiting.items(), _LONGEST, parallel):
        yield waiting[key], outlived


class _Host:
    """A pytest plugin that runs all tests once, and then in a forked process for each change to a function.

    So a change costs neither imports nor collection, and the fastest test that can detect it does.
    """

    def __init__(
        self, module: str, path: Path, changes: Sequence[Mutant], parallel: int, writer: int
    ) -> None:
        self._module = module
        self._path = path
        self._changes = changes
        self._parallel = parallel
        self._writer = writer
        self._seconds: defaultdict[str, float] = defaultdict(float)

    def pytest_configure(self) -> None:
        """Speed up Hypothesis: it neither shrinks nor stores failures."""
        phases = [Phase.explicit, Phase.generate]
        settings.register_profile(
            "mutants", settings.default, database=None, phases=phases, report_multiple_bugs=False
        )
        settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Add up the duration of a test."""
        self._seconds[report.nodeid] += report.duration

    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        """Run the tests without a change, and then with each change."""
        began, cpu = time.monotonic(), time.process_time()
        if not _passes(session, session.items):
            return True
        timeout, cpu = 4 * (time.monotonic() - began) + 20, 4 * (time.process_time() - cpu) + 2
        items = sorted(session.items, key=lambda item: self._seconds[item.nodeid])
        functions = _functions(sys.modules[self._module])

        def start(mutant: Mutant) -> int:
            child = os.fork()
            if child:
                return child
            code = int(pytest.ExitCode.TESTS_FAILED)
            try:
                os.setpgid(0, 0)
                resource.setrlimit(resource.RLIMIT_CPU, (int(cpu) + 1, int(cpu) + 1))
                resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
                functions[mutant.function].__code__ = code_of(mutant, self._path)
                if _passes(session, items):
                    code = int(pytest.ExitCode.OK)
            finally:
                os._exit(code)

        chosen = [
            (number, mutant)
            for number, mutant in enumerate(self._changes)
            if mutant.function in functions
            and code_of(mutant, self._path).co_freevars == functions[mutant.function].__code__.co_freevars
        ]
        for number, survived in _outcomes(start, chosen, timeout, self._parallel):
            os.write(self._writer, f"{number} {survived}\n".encode())
        return True


def _passes(session: pytest.Session, items: Sequence[pytest.Item]) -> bool:
    for item, after in zip_longest(items, items[1:]):
        item.config.hook.pytest_runtest_protocol(item=item, nextitem=after)
        if session.shouldfail:
            return False
    return True


def _functions(module: ModuleType) -> dict[str, FunctionType]:
    """Return the functions and methods of a module by qualified name."""
    found: dict[str, FunctionType] = {}
    members = list(vars(module).values())
    for member in members:
        if isinstance(member, type) and member.__module__ == module.__name__:
            members += vars(member).values()
        function = member.fget if isinstance(member, property) else member
        function = getattr(function, "__func__", function)
        if isinstance(function, FunctionType) and function.__module__ == module.__name__:
            found[function.__qualname__] = function
    return found


def code_of(mutant: Mutant, path: Path) -> CodeType:
    """Return the code of the function that a mutant changes."""
    codes = [compile(mutant.tree, str(path), "exec")]
    for code in codes:
        if code.co_qualname == mutant.function:
            return code
        codes += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    raise LookupError(mutant.function)


def _outcomes(
    start: Callable[[Mutant], int], changes: Iterable[tuple[int, Mutant]], timeout: float, parallel: int
) -> Iterator[tuple[int, bool]]:
    """Yield the number of each change and whether its process exited with success."""
    waiting, running = iter(changes), dict[int, tuple[int, float]]()
    more = True
    try:
        while more or running:
            while more and len(running) < parallel:
                number, mutant = next(waiting, (-1, None))
                more = mutant is not None
                if mutant is not None:
                    running[start(mutant)] = number, time.monotonic() + timeout
            for child, (number, deadline) in list(running.items()):
                done, status = os.waitpid(child, os.WNOHANG)
                if not done and time.monotonic() < deadline:
                    continue
                if not done:
                    os.killpg(child, signal.SIGKILL)
                    os.waitpid(child, 0)
                del running[child]
                yield number, bool(done) and os.waitstatus_to_exitcode(status) == pytest.ExitCode.OK
            time.sleep(0.01)
    finally:
        for child in running:
            os.killpg(child, signal.SIGKILL)


def _fork(tests: Sequence[str], plugins: Sequence[object] = ()) -> int:
    """Run tests in a new process and return its id."""
    child = os.fork()
    if child:
        return child
    code = int(pytest.ExitCode.INTERNAL_ERROR)
    try:
        os.setpgid(0, 0)
        nothing = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(nothing, stream)
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
        code = int(pytest.main([*options, *tests], plugins=plugins))
    finally:
        os._exit(code)
