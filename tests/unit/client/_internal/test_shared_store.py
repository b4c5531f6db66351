"""Processes that share a token store: no process presents a refresh token that another has exchanged."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.support.both_sources import AnySource, Store, tokens_of
from tests.support.deadline import eventually
from tests.support.fake_token_service import FakeTokenService
from token_service.client import FileTokenStore, RenewalPolicy, Secret, Tokens
from token_service.client._internal.token_store import SharedStore, exclusively
from token_service.errors import SessionRevokedError, StoreUnavailableError


class FileStore(Store):
    """A store as an application would write it, one instance in each process."""

    def __init__(self, path: Path) -> None:
        super().__init__(None)
        self.path = path
        self.unreadable = False

    def load(self) -> Tokens | None:
        if self.unreadable:
            raise ValueError("half a file")
        if not self.path.exists():
            return None
        read = json.loads(self.path.read_text())
        return Tokens(**{**read, "scopes": tuple(read["scopes"])})

    def save(self, tokens: Tokens) -> None:
        super().save(tokens)
        new = self.path.with_suffix(f".{id(self)}")
        new.write_text(json.dumps(asdict(tokens)))
        os.replace(new, self.path)  # noqa: PTH105  # as an application would


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tokens"


def process(kind: str, service: FakeTokenService, path: Path, **options: Any) -> AnySource:
    return AnySource(kind, service, FileStore(path), **options)


def sent(service: FakeTokenService) -> list[str]:
    return [call.refresh_token for call in service.refresh_calls]


async def test_process_uses_tokens_renewed_by_another_process(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    first = tokens_of(service)
    FileStore(path).save(first)
    async with process(kind, service, path) as one, process(kind, service, path) as other:
        assert await one.token() == await other.token() == first.access_token
        for _ in range(3):  # the fake treats the previous token as a retry and any older one as reuse
            one.invalidate(await one.token())
            await one.token()
        assert service.generation == 3
        other.invalidate(first.access_token)
        assert await other.token() == await one.token()
        assert sent(service) == ["refresh-0", "refresh-1", "refresh-2"]
        other.invalidate(await other.token())
        await other.token()
        assert sent(service)[3:] == ["refresh-3"]


async def test_concurrent_renewal_in_several_processes_keeps_the_session(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    FileStore(path).save(tokens_of(service, life=-1))
    processes = [process(kind, service, path) for _ in range(5)]
    try:
        for generation in range(1, 5):
            got = await asyncio.gather(*(one.token() for one in processes))
            assert service.generation == generation
            assert FileStore(path).load().refresh_token == f"refresh-{generation}"  # type: ignore[union-attr]
            for one, token in zip(processes, got, strict=True):
                one.invalidate(token)
                FileStore(path).save(tokens_of(service, life=-1, refresh=f"refresh-{generation}"))
    finally:
        for one in processes:
            await one.__aexit__()


async def test_store_is_read_before_every_repetition(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    FileStore(path).save(tokens_of(service, life=-1))
    service.lose_refreshes = 1
    async with process(kind, service, path) as one:
        store = one.store
        assert isinstance(store, FileStore)
        theirs = tokens_of(service, refresh="refresh-7")
        load = store.load

        def load_and_be_overtaken() -> Tokens | None:
            if service.refresh_calls:
                FileStore(path).save(theirs)
            return load()

        store.load = load_and_be_overtaken  # type: ignore[method-assign]
        assert await one.token() == theirs.access_token
        assert sent(service) == ["refresh-0"]
        assert store.saves == 0


async def test_a_late_answer_does_not_replace_what_another_process_has_stored(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    FileStore(path).save(tokens_of(service, life=-1))
    async with process(kind, service, path) as one:
        store = one.store
        assert isinstance(store, FileStore)
        theirs = tokens_of(service, refresh="refresh-2")
        load = store.load

        def load_and_be_overtaken() -> Tokens | None:
            if service.generation == 1:  # answered, and not stored yet
                FileStore(path).save(theirs)
            return load()

        store.load = load_and_be_overtaken  # type: ignore[method-assign]
        assert await one.token() == theirs.access_token
        assert store.saves == 0
        assert load() == theirs


async def test_login_of_another_process_replaces_an_ended_session(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    FileStore(path).save(tokens_of(service, life=-1))
    service.refuse_refreshes = SessionRevokedError()
    async with process(kind, service, path) as one, process(kind, service, path) as other:
        for _ in range(2):
            with pytest.raises(SessionRevokedError):
                await one.token()
        assert len(service.refresh_calls) == 1
        login = tokens_of(service, refresh="refresh-0b")
        await other.do("replace", login)
        assert await one.token() == login.access_token
        assert len(service.refresh_calls) == 1


async def test_older_stored_tokens_are_not_used(service: FakeTokenService, kind: str, path: Path) -> None:
    first = tokens_of(service, life=-1)
    FileStore(path).save(first)
    async with process(kind, service, path) as one:
        for generation in (1, 2, 3):
            one.invalidate(await one.token())
            assert service.generation == generation
            FileStore(path).save(first)  # e.g. a process that was stopped while it saved
        await one.token()
        assert sent(service) == [f"refresh-{number}" for number in range(4)]


async def test_unstored_login_is_not_replaced_by_older_stored_tokens(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    FileStore(path).save(tokens_of(service, life=-1, refresh="old-0"))
    async with process(kind, service, path) as one:
        one.store.broken = True
        await one.do("replace", tokens_of(service, life=-1))
        one.store.broken = False
        await one.token()
        assert sent(service) == ["refresh-0"]
    assert FileStore(path).load().refresh_token == "refresh-1"  # type: ignore[union-attr]


async def test_without_rotation_a_newer_access_token_of_another_process_is_used(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    first = tokens_of(service)
    FileStore(path).save(first)
    async with process(kind, service, path) as one:
        assert await one.token() == first.access_token
        newer = tokens_of(service, life=901)
        FileStore(path).save(newer)
        one.invalidate(first.access_token)
        assert await one.token() == newer.access_token
        assert service.refresh_calls == []


async def test_unreadable_store_only_causes_a_log_line(
    service: FakeTokenService, kind: str, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    FileStore(path).save(tokens_of(service, life=-1))
    async with process(kind, service, path) as one:
        first = await one.token()
        assert isinstance(one.store, FileStore)
        one.store.unreadable = True
        one.invalidate(first)
        with caplog.at_level(logging.ERROR):
            assert await one.token() != first
        assert "half a file" in caplog.text
        assert "refresh-" not in caplog.text
        assert sent(service) == ["refresh-0", "refresh-1"]


def test_store_is_called_by_one_thread_at_once(service: FakeTokenService) -> None:
    inside: list[int] = []

    class Counting(Store):
        def load(self) -> Tokens | None:
            inside.append(1)
            assert len(inside) == 1
            inside.pop()
            return super().load()

    tokens = tokens_of(service)
    store = SharedStore(Counting(tokens))
    assert store.save(tokens, frozenset({"refresh-0"})) is True
    assert store.save(tokens, frozenset()) == tokens
    assert store.overwrite(tokens) == (True, tokens)


def locked_store(path: Path) -> FileTokenStore:
    return FileTokenStore(path, Secret(b"0123456789abcdef0123456789abcdef"))


async def test_renewal_waits_for_another_process_and_uses_its_tokens(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    other, renewed = locked_store(path), tokens_of(service, refresh="refresh-7")
    other.save(tokens_of(service, life=-1))
    async with AnySource(kind, service, locked_store(path)) as source:
        with other.lock(60):
            waiting = asyncio.create_task(source.token())
            await asyncio.sleep(0)
            other.save(renewed)
        assert await waiting == renewed.access_token
    assert sent(service) == []


async def test_renewal_holds_the_lock_until_the_successor_is_stored(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    other = locked_store(path)
    other.save(tokens_of(service, life=-1))
    service.refresh_gate.clear()
    async with AnySource(kind, service, locked_store(path)) as source:
        waiting = asyncio.create_task(source.token())
        await eventually(lambda: sent(service) == ["refresh-0"])
        with pytest.raises(TimeoutError), other.lock(0):
            pass
        service.refresh_gate.set()
        token = await waiting
        with other.lock(60):
            saved = other.load()
    assert saved is not None
    assert (saved.access_token, saved.refresh_token) == (token, "refresh-1")


async def test_stopped_process_that_holds_the_lock_makes_renewals_fail_without_a_request(
    service: FakeTokenService, kind: str, path: Path
) -> None:
    other = locked_store(path)
    other.save(tokens_of(service, life=-1))
    policy = RenewalPolicy(attempt_timeout=0.1, give_up_after=0.1)
    async with AnySource(kind, service, locked_store(path), policy=policy) as source:
        with other.lock(60):
            with pytest.raises(StoreUnavailableError, match="another process holds the lock"):
                await source.token()
            assert sent(service) == []
    async with AnySource(kind, service, locked_store(path)) as source:
        await source.token()
    assert sent(service) == ["refresh-0"]


async def test_cancelled_renewal_leaves_no_lock_behind(path: Path) -> None:
    other, store = locked_store(path), SharedStore(locked_store(path))

    async def enter() -> None:
        async with exclusively(store, 60):
            raise AssertionError("the lock was entered")

    with other.lock(60):
        task = asyncio.create_task(enter())
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    def is_free() -> bool:
        try:
            with other.lock(0):
                return True
        except TimeoutError:
            return False

    await eventually(is_free)
