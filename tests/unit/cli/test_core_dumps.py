from __future__ import annotations

import subprocess
import sys

import pytest


@pytest.mark.parametrize(("also_to_programs", "dumpable"), [(False, "1"), (True, "0")])
def test_process_and_its_children_dump_no_core(also_to_programs: bool, dumpable: str) -> None:  # noqa: FBT001
    program = (
        "import ctypes, resource, subprocess, sys\n"
        "from token_service.cli.core_dumps import PR_GET_DUMPABLE, forbid_core_dumps\n"
        f"forbid_core_dumps(also_to_programs={also_to_programs})\n"
        "print(resource.getrlimit(resource.RLIMIT_CORE), ctypes.CDLL(None).prctl(PR_GET_DUMPABLE, 0, 0, 0, 0))\n"
        "sys.stdout.flush()\n"
        "subprocess.run([sys.executable, '-c',"
        " 'import resource; print(resource.getrlimit(resource.RLIMIT_CORE))'], check=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.splitlines() == [f"(0, 0) {dumpable}", "(0, 0)"]
