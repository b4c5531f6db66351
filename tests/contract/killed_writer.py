"""A process that kills itself at a step of a change with an audit event."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from tests.contract.builders import NOW, a_draft, a_signing_key
from tests.support.memory_audit import AUDIT_KEYS
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.revocation.drafts import event_of
from token_service.core.revocation.log_renewal import next_start
from token_service.stores.sql import SqlStores
from token_service.stores.sql.engine.prepared import Prepared
from token_service.tokens.revocation import RevocationTarget

ACTOR = Actor.system("test")


def kill_at(step: int) -> None:
    """Kill this process before statement number `step` of the change."""
    left = step

    def counted(execute: Callable[..., Awaitable[Any]]) -> Any:
        async def execute_or_die(*args: Any, **kwargs: Any) -> Any:
            nonlocal left
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            left -= 1
            return await execute(*args, **kwargs)

        return execute_or_die

    AsyncConnection.execute = counted(AsyncConnection.execute)  # type: ignore[method-assign]
    Prepared.run_in_order = counted(Prepared.run_in_order)  # type: ignore[method-assign]


async def change(stores: Any, name: str) -> None:
    """Make a change of one entry or key, with one event."""
    if name == "revoke":
        draft = a_draft(RevocationTarget.SUBJECT, "alice")
        await stores.log.append([replace(draft, event=event_of(draft, ACTOR))])
        return
    event = AuditEvent(action=Action.LOG_RENEWED, actor=ACTOR, target=Target("log"))
    if name == "renew":
        head = await stores.log.head()
        draft = replace(a_draft(RevocationTarget.EVERYTHING, ""), event=event)
        await stores.log.renew(
            draft, replaces=head.epoch, epoch="renewed", sequence=next_start(head.sequence, NOW)
        )
        return
    if name == "policies":
        event = AuditEvent(action=Action.POLICIES_CHANGED, actor=ACTOR, target=Target("policies"))
        await stores.policies.change(
            {"internal.rotate": "false"}, revision=0, now=NOW, by="test", events=[event]
        )
        return
    await stores.keys.save(0, [a_signing_key()], [], events=[event])


def write(url: str, name: str, step: int) -> None:
    """Begin the change, and kill this process before statement number `step`."""
    asyncio.run(_write(url, name, step))


async def _write(url: str, name: str, step: int) -> None:
    async with SqlStores(url, audit_keys=AUDIT_KEYS, node_id="killed") as stores:
        kill_at(step)
        await change(stores, name)
