"""Random bytes are never handed out twice: not to two threads, not to two processes."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import pytest

from token_service.randomness import RandomBlocks


@pytest.mark.parametrize("size", [0, 1, 16, 1024, 1025, 100_000])
def test_has_the_size_that_was_asked_for(size: int) -> None:
    assert len(RandomBlocks()(size)) == size


def test_values_over_many_blocks_differ() -> None:
    source = RandomBlocks()
    values = [source(size) for _ in range(500) for size in (16, 11, 33)]
    assert len(set(values)) == len(values)


def test_threads_get_different_values() -> None:
    source = RandomBlocks()
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda _: [source(16) for _ in range(2000)], range(8)))
    values = [value for each in found for value in each]
    assert len(set(values)) == len(values)


def test_forked_process_gets_values_of_its_own() -> None:
    source = RandomBlocks()
    source(16)  # the block has more bytes
    readable, writable = os.pipe()
    child = os.fork()
    if not child:
        os.write(writable, source(16))
        os._exit(0)
    os.waitpid(child, 0)
    assert os.read(readable, 16) != source(16)
    for end in (readable, writable):
        os.close(end)


def test_value_that_was_handed_out_is_not_kept() -> None:
    source = RandomBlocks()
    value = source(16)
    assert value not in source._block
    assert any(value)
