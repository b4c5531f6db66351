from __future__ import annotations

import logging
import os
from pathlib import Path

import pytest

from tests.unit.core.virtual_time import ManualClock
from tests.unit.fetching.serving import key_set
from token_service.core.access.key_sources import KeySource
from token_service.errors import ForeignKeysUnavailableError
from token_service.fetching.documents import MAX_DOCUMENT_BYTES
from token_service.fetching.file_keys import FileKeys
from token_service.tokens.key_set import KeySet


def kids(keys: KeySet) -> set[str]:
    return {key.key_id for key in keys}


async def test_file_is_read_and_read_again_when_it_changed(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", ManualClock()
    path.write_bytes(key_set("a"))
    async with FileKeys(path, clock) as source:
        first = await source.keys("a")
        clock.elapsed += 1.0
        assert await source.keys("a") is first
        path.write_bytes(key_set("b"))
        clock.elapsed += 1.0
        assert kids(await source.keys("a")) == {"b"}


async def test_change_counts_though_time_and_size_of_the_file_stay(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", ManualClock()
    path.write_bytes(key_set("a"))
    times = path.stat()
    async with FileKeys(path, clock) as source:
        assert kids(await source.keys(None)) == {"a"}
        document = key_set("b")
        path.write_bytes(document + b" " * (times.st_size - len(document)))
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
        clock.elapsed += 1.0
        assert kids(await source.keys(None)) == {"b"}


async def test_unknown_key_is_looked_for_at_once(tmp_path: Path) -> None:
    path, clock = tmp_path / "keys.json", ManualClock()
    path.write_bytes(key_set("a"))
    async with FileKeys(path, clock) as source:
        await source.keys("a")
        path.write_bytes(key_set("a", "b"))
        assert kids(await source.keys("b")) == {"a", "b"}


async def test_bundle_gives_its_jwt_keys(tmp_path: Path) -> None:
    path = tmp_path / "bundle.json"
    path.write_bytes(key_set("a", spiffe_sequence=3).replace(b'"use": "sig"', b'"use": "jwt-svid"'))
    async with FileKeys(path, ManualClock()) as source:
        assert kids(await source.keys("a")) == {"a"}


@pytest.mark.parametrize("content", [None, b"", b'{"keys":[]}', key_set("b") + b" " * MAX_DOCUMENT_BYTES])
async def test_last_usable_keys_stay_with_one_log_line(
    tmp_path: Path, content: bytes | None, caplog: pytest.LogCaptureFixture
) -> None:
    path, clock = tmp_path / "keys.json", ManualClock()
    path.write_bytes(key_set("a"))
    async with FileKeys(path, clock) as source:
        first = await source.keys("a")
        caplog.set_level(logging.INFO)
        if content is None:
            path.unlink()
        else:
            path.write_bytes(content)
        for _ in range(4):
            clock.elapsed += 1_000_000.0  # for any time
            assert await source.keys("a") is first
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys("b")
        (line,) = caplog.messages
        assert f"the keys of {path} can't be loaded: " in line
        assert line.endswith("the last keys stay in force until a load succeeds")
        path.write_bytes(key_set("b"))
        clock.elapsed += 1.0
        assert kids(await source.keys("b")) == {"b"}
        assert caplog.messages[1:] == [f"the keys of {path} are available again"]


async def test_missing_file_and_directory_are_unavailable(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", tmp_path):
        source: KeySource = FileKeys(path, ManualClock())
        with pytest.raises(ForeignKeysUnavailableError):
            await source.keys(None)
