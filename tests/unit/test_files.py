from __future__ import annotations

import os
from pathlib import Path

import pytest

from token_service.files import read_regular


def test_file_up_to_the_limit_is_read(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    assert read_regular(path, 5) == b"12345"
    link = tmp_path / "link"
    link.symlink_to(path)
    assert read_regular(link, 5) == b"12345"
    path.write_bytes(b"")
    assert read_regular(path, 0) == b""


def test_file_that_reports_no_size_is_read() -> None:
    assert read_regular(Path("/proc/self/cmdline"), 1 << 20).startswith(os.fsencode(os.sys.orig_argv[0]))  # type: ignore[attr-defined]


def refusal(path: Path, limit: int = 5) -> str | None:
    with pytest.raises(OSError, match=r".") as caught:
        read_regular(path, limit)
    return caught.value.strerror


def test_large_and_irregular_files_are_refused(tmp_path: Path) -> None:
    large, pipe = tmp_path / "large", tmp_path / "pipe"
    large.write_bytes(b"123456")
    assert refusal(large) == "larger than 5 bytes"
    with large.open("wb") as file:
        file.truncate(1 << 40)  # a sparse file uses no disk space
    assert refusal(large) == "larger than 5 bytes"
    os.mkfifo(pipe)
    assert refusal(pipe) == "not a regular file"
    assert refusal(Path("/dev/zero")) == "not a regular file"
    assert refusal(tmp_path) == "Is a directory"
    assert refusal(tmp_path / "missing") == "No such file or directory"
    assert refusal(tmp_path / "a\0b") == "not a path"
    assert refusal(Path("/proc/self/status"), 5) == "larger than 5 bytes"
