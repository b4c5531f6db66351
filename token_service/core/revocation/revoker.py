"""RevokeToken: makes a revocation durable first, then passes it on to all nodes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.audit import Audit
from token_service.core.events.event import Actor
from token_service.core.keys.manager import KeyManager
from token_service.core.revocation.commands import RevokeCommand, RevokeOutcome
from token_service.core.revocation.drafts import Drafts, event_of
from token_service.core.revocation.log import RevocationDraft, RevocationLog
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.tailer import Tailer
from token_service.core.subscribers.waits import Waits
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget

_WIDE: Final = frozenset({RevocationTarget.KEY, RevocationTarget.EVERYTHING})


class Revoker:
    """Appends to the revocation log and applies the entries to this node's replica."""

    def __init__(
        self,
        log: RevocationLog,
        tailer: Tailer,
        read_index: ReadIndex,
        drafts: Drafts,
        key_manager: KeyManager,
        waits: Waits,
        audit: Audit,
        *,
        publish: Callable[[Sequence[Revocation]], None] | None = None,
    ) -> None:
        """`publish` receives the entries that this node has appended and sends them to other nodes."""
        self._log = log
        self._tailer = tailer
        self._read_index = read_index
        self._drafts = drafts
        self._key_manager = key_manager
        self._waits = waits
        self._audit = audit
        self._publish = publish
        # A call may wait at any node: each node asks its own subscribers to confirm.
        tailer.on_head(lambda head: waits.heard(head.awaited))
        self._appending: set[asyncio.Task[tuple[Cursor, int]]] = set()

    async def revoke(self, caller: Caller, command: RevokeCommand, now: float) -> RevokeOutcome:
        """Revoke the target of a command within the caller's rates.

        The revocation is durable when this returns. A target that is unknown, expired or revoked already is a
        success (RFC 7009, section 2.2).

        Raises `PermissionDeniedError`, `InvalidRequestError`, `RateLimitedError` if the caller has revoked
        too much, and `StoreUnavailableError` (the revocation may be in effect; repeat the call).
        """
        admit(caller, UseCase.REVOKE_TOKEN)
        if command.target in _WIDE:
            admit(caller, UseCase.REVOKE_WIDELY)
        draft = await self._drafts.of(caller, command, now)
        if draft is None:
            head = await self._read_index.head()
            cursor = Cursor(head.epoch, head.sequence)
        else:
            draft = replace(draft, awaited=command.wait is not None)
            cursor = await self.carry_out(draft, caller.actor())
        if command.wait is None:
            return RevokeOutcome(cursor)
        connected, applied = await self._waits.wait_applied(cursor, command.wait)
        return RevokeOutcome(cursor, connected, applied, self._waits.silent)

    async def carry_out(self, draft: RevocationDraft, actor: Actor) -> Cursor:
        """Append a draft and perform its side effects; return a place in the log that includes it."""
        return await carry_out(draft, actor, self.append, self._key_manager, self._audit)

    async def append(self, drafts: Sequence[RevocationDraft]) -> Cursor:
        """Append drafts in one transaction; return a place in the log that includes them.

        The append completes even if the caller disconnects, so this node applies and publishes every durable
        entry.
        """
        return (await self.append_counted(drafts))[0]

    async def append_counted(self, drafts: Sequence[RevocationDraft]) -> tuple[Cursor, int]:
        """Append drafts as `append` does; return also the number of entries, because the log leaves drafts out."""
        task = asyncio.create_task(self._append(drafts), name="revoke")
        self._appending.add(task)
        task.add_done_callback(self._appended)
        return await asyncio.shield(task)

    async def _append(self, drafts: Sequence[RevocationDraft]) -> tuple[Cursor, int]:
        head, entries = await self._log.append(drafts)
        await self._tailer.meet_clients(head)
        self._tailer.offer(head, entries)
        if self._publish is not None:
            self._publish(entries)
        return Cursor(head.epoch, head.sequence), len(entries)

    def _appended(self, task: asyncio.Task[tuple[Cursor, int]]) -> None:
        self._appending.discard(task)
        if not task.cancelled():
            task.exception()  # mark it as retrieved: the caller may have disconnected


async def carry_out(
    draft: RevocationDraft,
    actor: Actor,
    append: Callable[[Sequence[RevocationDraft]], Awaitable[Cursor]],
    key_manager: KeyManager,
    audit: Audit,
) -> Cursor:
    """Append a revocation by `actor`; return a place in the log that includes it.

    A draft may bring its audit event. For a key, the key manager does its work before and after the append.
    """
    event = draft.event or event_of(draft, actor)
    draft = replace(draft, event=event)
    if draft.target is RevocationTarget.KEY:
        async with key_manager.revoking(actor, draft.value):
            cursor = await append([draft])
    else:
        cursor = await append([draft])
    audit.record(structs.replace(event, fields={**event.fields, "cursor": str(cursor)}))
    return cursor
