"""A process that encrypts a database and kills itself at a step."""

from __future__ import annotations

import asyncio

from tests.contract.builders import NOW
from tests.contract.killed_writer import kill_at
from tests.support.memory_audit import AUDIT_KEYS
from token_service.core.events.event import Actor
from token_service.core.personal_data.keys import EncryptionState
from token_service.signers.key_wrap import AesGcmKeyWrap
from token_service.stores.sql import SqlStores, personal_sweeps
from token_service.tokens.secret import Secret

ACTOR = Actor.system("test")


def convert(url: str, step: int) -> None:
    """Begin the conversion, and kill this process before statement number `step`."""
    personal_sweeps.BATCH = 7  # type: ignore[misc]
    asyncio.run(_convert(url, step))


async def _convert(url: str, step: int) -> None:
    async def load_wrap() -> AesGcmKeyWrap:
        return AesGcmKeyWrap([Secret(b"k" * 32)])

    async def ignore(_done: int) -> None:
        """Show nothing."""

    async with SqlStores(url, audit_keys=AUDIT_KEYS, node_id="killed", load_wrap=load_wrap) as stores:
        kill_at(step)
        await stores.personal_data_changes.begin(ACTOR, EncryptionState.ENCRYPTING, NOW)
        await stores.personal_data_sweeps.run(ignore)
        await stores.personal_data_changes.finish(ACTOR, EncryptionState.ENCRYPTING)
        await stores.personal_data_sweeps.drop_floors()
