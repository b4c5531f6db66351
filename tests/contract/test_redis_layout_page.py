"""docs/redis-layout.md: its example runs on a real Redis, and its keys are the keys of the code."""

from __future__ import annotations

import re
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

from redis.asyncio import Redis

from token_service.core.revocation.log import LogHead
from token_service.redis_clients import RedisAccess
from token_service.stores.redis import RedisMirror, layout
from token_service.tokens.revocation import Revocation, RevocationTarget

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "redis-layout.md").read_text()
EPOCH = "k3vX9aQm"
_COMMAND = re.compile(r"^> (\S.*?)(?:\s{2,}(\S.*))?$")
_REPLY = re.compile(r"\(integer\) (\d+)|\(nil\)|\"([^\"]*)\"")


def example() -> list[tuple[list[str], list[str | int | None]]]:
    """The commands on the page with their replies."""
    found: list[tuple[list[str], list[str | int | None]]] = []
    block = PAGE[PAGE.index("## Example") :].split("```text\n")[1].split("```")[0]
    for line in block.splitlines():
        command = _COMMAND.match(line)
        text = line
        if command is not None:
            found.append((command[1].split(), []))
            text = command[2] or ""
        found[-1][1].extend(
            int(reply[1]) if reply[1] else reply[2] if reply[2] is not None else None
            for reply in _REPLY.finditer(text)
        )
    return found


async def pages(entries: Sequence[Revocation]) -> AsyncIterator[Sequence[Revocation]]:
    yield entries


async def test_the_example_has_the_replies_of_a_real_redis(redis_url: str) -> None:
    revoked = Revocation(
        42, RevocationTarget.SUBJECT, "alice", revoke_time=1767226400.123456, expire_time=time.time() + 3600
    )
    commands = example()
    assert len(commands) == 5
    async with (
        RedisMirror(RedisAccess.of(redis_url)) as mirror,
        Redis.from_url(redis_url, decode_responses=True) as store,
    ):
        await mirror.rebuild(LogHead(EPOCH, 42, 0, 0), pages([revoked]))
        for command, shown in commands:
            reply = await store.execute_command(*command)
            assert (reply if isinstance(reply, list) else [reply]) == shown, command


def test_the_keys_of_the_code_are_on_the_page() -> None:
    documented = set(re.findall(r"^\| `P:([a-z]+(?::0)?)", PAGE, re.MULTILINE))
    assert {key.rstrip(":") for key in layout._KEYS.values()} <= documented
    assert f"`P:{layout.rates('').rpartition(':')[2]}/" in PAGE
    assert layout.EPOCH_KEY in PAGE
    assert layout.prefix("<epoch>").rstrip(":") in PAGE
