"""The cost of encrypted personal data: the use cases on an encrypted database against those on a plain one.

Both cores run in this process and take turns in short bursts, so that other load of the machine hits both. There is no
gRPC in between, which would make the ratio better.
"""

from __future__ import annotations

import asyncio
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Final

from tests.benchmarks.duel import Effort
from tests.benchmarks.table import Row
from tests.support.postgres import PostgresDatabases
from token_service.app.adapters import audit_keys_of, open_core, open_stores
from token_service.app.core import Core
from token_service.app.personal_data_start import settle_personal_data
from token_service.config import Settings, load_settings, prepare_data_dir
from token_service.core.access.caller import Caller
from token_service.core.events.event import Origin
from token_service.core.issuing.commands import IssueCommand, RefreshCommand
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import PolicyBook
from token_service.telemetry import Audit

_CALLER: Final = Caller.operator("bench")
_ORIGIN: Final = Origin(
    "198.51.100.7", "Mozilla/5.0 (X11; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0"
)
_ISSUE: Final = IssueCommand(
    subject="user-7f3a9c21",
    client_id="web",
    audience=("https://api.example",),
    scopes=("orders:read", "orders:write"),
    device_id="phone-1",
    custom_claims={"department": "orders", "employee": "7f3a9c21"},
    client_context=_ORIGIN,
)
_CONCURRENT: Final = 16
_AT_LEAST: Final = 0.85
"""Without gRPC. A whole call is to reach 0.95."""
_BURSTS: Final = 20
"""Bursts of each side for one round of the effort."""


@dataclass
class _Side:
    """A core and the refresh tokens of its chains."""

    core: Core
    tokens: list[str]

    async def issue(self) -> None:
        """Open sessions."""
        now = time.time()
        await asyncio.gather(*(self.core.issuer.issue(_CALLER, _ISSUE, now) for _ in range(_CONCURRENT)))

    async def refresh(self) -> None:
        """Exchange the refresh token of each chain."""
        now = time.time()
        commands = [
            RefreshCommand(refresh_token=token, client_id="web", device_id="phone-1", client_context=_ORIGIN)
            for token in self.tokens
        ]
        issued = await asyncio.gather(
            *(self.core.refresher.refresh(_CALLER, command, now) for command in commands)
        )
        self.tokens = [each.refresh_token for each in issued]


def cost(effort: Effort, postgres: PostgresDatabases) -> Iterator[Row]:
    """Measure the calls that store personal data, on both databases."""
    for name in ("PostgreSQL", "SQLite"):
        with tempfile.TemporaryDirectory() as directory:
            urls = [
                postgres.create_database() if name == "PostgreSQL" else f"sqlite:///{directory}/{setting}.db"
                for setting in ("on", "off")
            ]
            yield from asyncio.run(_measure(name, effort, Path(directory), urls))


async def _measure(name: str, effort: Effort, directory: Path, urls: list[str]) -> list[Row]:
    async with AsyncExitStack() as stack:
        sides = []
        for setting, url in zip(("on", "off"), urls, strict=True):
            values = {
                "data_dir": str(directory),
                "database_url": url,
                "personal_data_encryption": setting,
                "signing_algorithm": "ES256",
            }
            sides.append(await _open(stack, load_settings(values, {})))
        await _duel(effort.rounds, [side.issue for side in sides])  # warms up
        return [
            _row(f"{what}, access + refresh, ES256, {name}, encrypted", await _duel(effort.rounds, calls))
            for what, calls in (
                ("IssueToken", [side.issue for side in sides]),
                ("RefreshToken", [side.refresh for side in sides]),
            )
        ]


async def _open(stack: AsyncExitStack, settings: Settings) -> _Side:
    prepare_data_dir(settings.data_dir)
    stores = await stack.enter_async_context(open_stores(settings, await audit_keys_of(settings), "bench"))
    await stores.migrate()
    await settle_personal_data(settings, stores)
    core = await stack.enter_async_context(
        open_core(settings, stores, Audit(), "bench", policies=Policies(PolicyBook()))
    )
    await core.start()
    issued = [await core.issuer.issue(_CALLER, _ISSUE, time.time()) for _ in range(_CONCURRENT)]
    return _Side(core, [each.refresh_token for each in issued])


async def _duel(
    rounds: int, calls: Sequence[Callable[[], Awaitable[None]]]
) -> list[list[tuple[float, float]]]:
    """Return the wall time and the processor time of each burst of each side."""
    found: list[list[tuple[float, float]]] = [[], []]
    for number in range(rounds * _BURSTS):
        for side in (0, 1) if number % 2 else (1, 0):
            wall, processor = time.perf_counter(), time.process_time()
            await calls[side]()
            found[side].append((time.perf_counter() - wall, time.process_time() - processor))
    return found


def _row(what: str, found: list[list[tuple[float, float]]]) -> Row:
    ours, plain = ([median(burst[kind] for burst in side) / _CONCURRENT for kind in (0, 1)] for side in found)
    ratios = [
        median(burst[kind] / other[kind] for other, burst in zip(*found, strict=True)) for kind in (0, 1)
    ]
    note = (
        f"processor time of the process a call {ours[1] * 1e6:.0f} us, plain {plain[1] * 1e6:.0f} us "
        f"({ratios[1]:.3f}); {len(found[0])} pairs of bursts of {_CONCURRENT} calls"
    )
    return Row(
        what,
        f"{1 / ours[0]:,.0f}/s",
        f"plain {1 / plain[0]:,.0f}/s",
        ratios[0],
        at_least=_AT_LEAST,
        note=note,
    )
