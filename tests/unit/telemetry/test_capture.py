"""Lines of a process that no logger writes become log lines."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from token_service.telemetry.capture import read_line

PROGRAM = """
import os, sys, threading, warnings
from token_service.telemetry import configure_logging
from token_service.telemetry.capture import capture_standard_error, log_warnings_and_uncaught_exceptions
configure_logging("info", as_json=True)
log_warnings_and_uncaught_exceptions()
capture_standard_error()
os.write(2, b"from C\\n\\n")
print("from Python", file=sys.stderr, flush=True)
warnings.warn("careful", UserWarning)
thread = threading.Thread(target=lambda: 1 / 0, name="worker")
thread.start()
thread.join()
os.write(2, b"E0000 00:00:1700000000.123456    7 ssl.cc:12] failed\\n" + b"x" * 40_000 + b"\\nwithout an end")
raise RuntimeError("the end, rt_" + "s" * 40)
"""


def test_every_line_of_a_process_is_json() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 1
    assert done.stdout == ""
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert all(list(line)[:4] == ["time", "level", "logger", "message"] for line in lines)
    found = {(line["logger"], line["level"], line["message"]) for line in lines}
    assert found >= {
        ("stderr", "warning", "from C"),
        ("stderr", "warning", "from Python"),
        ("stderr", "warning", "without an end"),
        ("grpc.core", "error", "failed"),
        ("uncaught", "error", "the thread worker ends with ZeroDivisionError"),
        ("uncaught", "critical", "the program ends with RuntimeError"),
    }
    assert any(line["message"] == "x" * 40_000 for line in lines)
    assert any(line["logger"] == "py.warnings" and "careful" in line["message"] for line in lines)
    [end] = [line for line in lines if line["level"] == "critical"]
    assert "RuntimeError: the end, rt_[TOKEN]" in end["traceback"]


@pytest.mark.parametrize(
    ("text", "logger", "level", "message", "fields"),
    [
        (
            "I0000 00:00:1700000000.123456     7 src/core/tls.cc:12] a: b",
            "grpc.core", 20, "a: b", {"source": "src/core/tls.cc:12"},
        ),
        ("E0101 01:02:03.123456 77 x.cc:1] ", "grpc.core", 40, "", {"source": "x.cc:1"}),
        ("E0101 nearly", "stderr", 30, "E0101 nearly", {}),
    ],
)  # fmt: skip
def test_lines_of_grpc_keep_their_level_and_source(
    text: str, logger: str, level: int, message: str, fields: dict[str, str]
) -> None:
    line = read_line(text)
    assert line is not None
    assert (line.logger.name, line.level, line.message, line.fields) == (logger, level, message, fields)


def test_an_empty_line_is_dropped() -> None:
    assert read_line("") is None
