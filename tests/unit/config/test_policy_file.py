# ruff: noqa: ASYNC240  # the files are small and on a local disk
"""An unusable policy file is an error at the start and a log line on a running node."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.support.deadline import eventually
from token_service.config import policy_file
from token_service.config.policy_file import PolicyDocument, PolicyFile
from token_service.core.login.upstreams import ChallengeSettings
from token_service.errors import ConfigurationError

GOOD = b'default = "public"\n'

CONTENTS = {
    "unclosed": (b"x = [", "is not TOML"),
    "deep": (b"x = " + b"[" * 3000 + b"]" * 3000, "is not TOML"),
    "5000 digits": (b"x = " + b"9" * 5000, "is not TOML"),
    "5000 hexadecimal digits": (
        b"[classifications.internal]\naccess_token_ttl = 0x" + b"f" * 5000,
        "internal.access_token_ttl: <a huge int>",
    ),
    "deep tables": (
        b"[classifications.internal]\nrotate" + b".a" * 5000 + b" = 1",
        "has a key of more than 32 parts",
    ),
    "deep permission": (
        b"[callers.x]\npermissions = [{a" + b".a" * 5000 + b" = 1}]",
        "has a key of more than 32 parts",
    ),
    "huge kind of assertion": (
        b'[trusted_issuers.a]\nkeys = "own"\nassertions = [[0x' + b"f" * 5000 + b"]]",
        "trusted_issuers.a: assertions: <a huge list> is none of",
    ),
    "deep roles": (
        b'[trusted_issuers.a]\nkeys = "own"\nassertions = ["id_token"]\nroles.claim' + b".a" * 5000 + b" = 1",
        "has a key of more than 32 parts",
    ),
    "not UTF-8": (b"\xff\xfe", "is not TOML"),
    "NUL": (b"\0", "is not TOML"),
    "impossible month": (b"x = 2020-13-01", "is not TOML"),
    "not a number": (b"[classifications.internal]\naccess_token_ttl = nan", "access_token_ttl: nan"),
    "list of callers": (b"callers = [1]", "callers: must be a table"),
    "list as default": (b'default = ["internal"]', "default: ['internal'] is none of"),
    "table as a word": (b"[classifications.internal]\nreuse_response = {a = 1}", "reuse_response: {'a': 1}"),
    "nested permission": (b'[callers.x]\npermissions = [["issue"]]', "['issue'] is no permission"),
    "too large": (b"#" * (8 * 1024 * 1024 + 1), "can't be read: larger than 8388608 bytes"),
}


def _directory(path: Path) -> None:
    path.mkdir()


def _missing(path: Path) -> None:
    pass


def _device(path: Path) -> None:
    path.symlink_to("/dev/zero")


KINDS = {
    "directory": (_directory, "can't be read: Is a directory"),
    "pipe": (os.mkfifo, "can't be read: not a regular file"),
    "device": (_device, "can't be read: not a regular file"),
    "missing": (_missing, "can't be read: No such file or directory"),
}


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "policy.toml"


def refusal(path: Path) -> str:
    with pytest.raises(ConfigurationError) as caught:
        PolicyFile(path, {}).load()
    return caught.value.message


@pytest.mark.parametrize("what", CONTENTS)
def test_unusable_content_is_a_configuration_error(path: Path, what: str) -> None:
    content, says = CONTENTS[what]
    path.write_bytes(content)
    message = refusal(path)
    assert str(path) in message
    assert says in message
    assert len(message) < 1000


@pytest.mark.parametrize("what", KINDS)
def test_unreadable_path_is_a_configuration_error(path: Path, what: str) -> None:
    make, says = KINDS[what]
    make(path)
    assert refusal(path) == f"{path} {says}"


def test_first_50_problems_are_listed(path: Path) -> None:
    path.write_text("\n".join(f"x{number} = 1" for number in range(60)))
    lines = refusal(path).splitlines()
    assert len(lines) == 52
    assert lines[-1] == "  and 10 more"


def test_upstreams_are_read(path: Path) -> None:
    path.write_text('[upstreams.inhouse]\nkind = "challenge"\nurl = "https://login.example/in"\n')
    assert PolicyFile(path, {}).load().upstreams == {
        "inhouse": ChallengeSettings("inhouse", "https://login.example/in")
    }


class Watched:
    def __init__(self, path: Path) -> None:
        self.file = PolicyFile(path, {})
        self.file.load()
        self.changes: list[PolicyDocument] = []


@pytest.fixture
async def watched(path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Watched]:
    monkeypatch.setattr(policy_file, "_INTERVAL", 0.005)
    monkeypatch.setattr(policy_file, "_SETTLING", 0.005)
    path.write_bytes(GOOD)
    watched = Watched(path)
    task = asyncio.create_task(watched.file.watch(watched.changes.append))
    yield watched
    assert not task.done()
    task.cancel()


@pytest.mark.parametrize("what", [*CONTENTS, *KINDS])
async def test_running_node_keeps_last_valid_policies_and_logs_once(
    path: Path, watched: Watched, caplog: pytest.LogCaptureFixture, what: str
) -> None:
    with caplog.at_level(logging.INFO):
        other = path.with_name("other")
        if what in CONTENTS:
            content, says = CONTENTS[what]
            other.write_bytes(content)
            other.replace(path)
        else:
            make, says = KINDS[what]
            path.unlink()
            make(path)
        await eventually(lambda: says in caplog.text)
        failing = bool(watched.file.problem)
        assert failing
        if path.is_dir():
            path.rmdir()
        other.write_bytes(b'default = "restricted"\n')
        other.replace(path)
        await eventually(lambda: bool(watched.changes))
    assert not watched.file.problem
    assert [change.book.default for change in watched.changes] == ["restricted"]
    errors = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    errors = [error for error in errors if "No such file" not in error] if what != "missing" else errors
    assert len(errors) == 1
    assert errors[0].startswith("the policies in force stay unchanged: ")
    assert says in errors[0]


async def test_content_that_is_being_written_does_not_count(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(policy_file, "_INTERVAL", 0.005)
    monkeypatch.setattr(policy_file, "_SETTLING", 0.005)
    path.write_bytes(GOOD)
    watched = Watched(path)
    # What a node reads while a program empties the file and writes its two lines. Each part is valid.
    parts = [
        b"",
        b'default = "restricted"\n',
        b'default = "restricted"\n[callers.x]\npermissions = ["validate"]\n',
    ]
    reads = [parts[0], parts[1], parts[1] + b"[", parts[2], parts[2], parts[2]]

    def read(*_: object) -> bytes:
        return reads.pop(0) if len(reads) > 1 else reads[0]

    monkeypatch.setattr(policy_file, "read_regular", read)
    watching = asyncio.create_task(watched.file.watch(watched.changes.append))
    try:
        await eventually(lambda: bool(watched.changes))
    finally:
        watching.cancel()
    assert [list(change.callers) for change in watched.changes] == [["x"]]
    assert "stay unchanged" not in caplog.text


async def test_same_content_after_an_error_is_logged_as_readable(
    path: Path, watched: Watched, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        for _ in range(2):
            path.unlink()
            await eventually(lambda: bool(watched.file.problem))
            other = path.with_name("other")
            other.write_bytes(GOOD)
            other.replace(path)
            await eventually(lambda: not watched.file.problem)
    assert caplog.text.count("is usable again") == 2
    assert watched.changes == []


async def test_unexpected_error_does_not_stop_a_node(
    path: Path, watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(policy_file, "parse_callers", fail)
    path.write_bytes(b'default = "restricted"\n')
    await eventually(lambda: bool(watched.file.problem))
    monkeypatch.undo()
    assert "the policies in force stay unchanged: MemoryError()" in caplog.text


async def test_content_that_its_user_refuses_leaves_the_old_policies_and_is_told(
    path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(policy_file, "_INTERVAL", 0.005)
    path.write_bytes(GOOD)
    file = PolicyFile(path, {})
    file.load()
    taken: list[PolicyDocument] = []

    def take(document: PolicyDocument) -> None:
        if document.book.default == "internal":
            raise ConfigurationError("workload_issuers.a: keys: the port is not a number")
        taken.append(document)

    watching = asyncio.create_task(file.watch(take))
    try:
        with caplog.at_level(logging.INFO):
            path.write_bytes(b'default = "internal"\n')
            await eventually(lambda: bool(file.problem) or watching.done())
            assert not watching.done()
            assert "the policies in force stay unchanged: workload_issuers.a" in caplog.text
            assert "were reloaded" not in caplog.text
            path.write_bytes(b'default = "restricted"\n')
            await eventually(lambda: bool(taken))
        assert not file.problem
        assert [document.book.default for document in taken] == ["restricted"]
    finally:
        watching.cancel()


async def test_refused_content_is_told_again_on_demand(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policy_file, "_INTERVAL", 0.005)
    path.write_bytes(GOOD)
    file = PolicyFile(path, {})
    file.load()
    refusals = ["an override contradicts it"]
    taken: list[PolicyDocument] = []

    def take(document: PolicyDocument) -> None:
        if refusals:
            raise ConfigurationError(refusals[0])
        taken.append(document)

    watching = asyncio.create_task(file.watch(take))
    try:
        path.write_bytes(b'default = "restricted"\n')
        await eventually(lambda: file.problem == "an override contradicts it")
        refusals.clear()
        file.read_again()
        await eventually(lambda: bool(taken))
        assert [document.book.default for document in taken] == ["restricted"]
        assert not file.problem
    finally:
        watching.cancel()


@pytest.mark.parametrize(
    "key", [".".join("a" * 60_000), "[" + " . ".join("ab" * 40) + "]", '"a b"."c".' + ".".join("x" * 31)]
)
def test_key_of_very_many_parts_is_refused_without_parsing(key: str) -> None:
    with pytest.raises(ConfigurationError, match="line 2 has a key of more than 32 parts"):
        PolicyFile(None, {}).parse(f"\n{key} = 1".encode())


def test_key_of_32_parts_is_parsed() -> None:
    with pytest.raises(ConfigurationError, match="a: no such setting"):
        PolicyFile(None, {}).parse((".".join("a" * 32) + " = 1").encode())


@pytest.mark.parametrize("text", ["a" * 400_000, '"' * 400_000, "'\"" * 200_000, "a ." * 31 + " " * 400_000])
def test_search_for_long_keys_takes_linear_time(text: str) -> None:
    with pytest.raises(ConfigurationError, match="not TOML"):
        PolicyFile(None, {}).parse(text.encode())
