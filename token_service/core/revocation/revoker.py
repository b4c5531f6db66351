"""RevokeToken: durable first, then everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.audit import Audit
from token_service.core.keys.manager import KeyManager
from token_service.core.revocation.commands import RevokeCommand, RevokeOutcome
from token_service.core.revocation.drafts import Drafts
from token_service.core.revocation.log import RevocationDraft, RevocationLog
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.tailer import Tailer
from token_service.core.subscribers.registry import Validators
from token_service.tokens.revocation import Cursor, Revocation, RevocationTarget

_WIDE: Final = frozenset({RevocationTarget.KEY, RevocationTarget.EVERYTHING})


class Revoker:
    """Appends to the revocation log and sees that this node knows at once."""

    def __init__(
        self,
        log: RevocationLog,
        tailer: Tailer,
        read_index: ReadIndex,
        drafts: Drafts,
        key_manager: KeyManager,
        subscribers: Validators,
        audit: Audit,
        *,
        publish: Callable[[Sequence[Revocation]], None] | None = None,
    ) -> None:
        """`publish` is given the entries that this node has appended, to send them to other nodes."""
        self._log = log
        self._tailer = tailer
        self._read_index = read_index
        self._drafts = drafts
        self._key_manager = key_manager
        self._subscribers = subscribers
        self._audit = audit
        self._publish = publish
        # A call may wait at any node: each node asks its own subscribers to confirm.
        tailer.on_head(lambda head: subscribers.heard(head.awaited))
        self._appending: set[asyncio.Task[Cursor]] = set()

    async def revoke(self, caller: Caller, command: RevokeCommand, now: float) -> RevokeOutcome:
        """Revoke, on behalf of a caller that has a quota of its own.

        Durable when this returns; succeeds for what is unknown, expired or revoked already (RFC 7009, section
        2.2).

        Raises `PermissionDeniedError`, `InvalidRequestError`, `OverloadedError` if the caller has revoked too
        many names, and `StoreUnavailableError` (it may have taken effect; repeat the call).
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
            cursor = await self.carry_out(draft)
        if command.wait is None:
            return RevokeOutcome(cursor)
        connected, applied = await self._subscribers.wait_applied(cursor.sequence, command.wait)
        return RevokeOutcome(cursor, connected, applied, self._subscribers.silent)

    async def carry_out(self, draft: RevocationDraft) -> Cursor:
        """Append a draft with what its target needs; a place in the log that includes it."""
        return await carry_out(draft, self.append, self._key_manager, self._audit)

    async def append(self, drafts: Sequence[RevocationDraft]) -> Cursor:
        """Append drafts in one transaction; a place in the log that includes them.

        Once begun it goes on even if the caller hangs up: what is durable is known to this node and passed
        on.
        """
        task = asyncio.create_task(self._append(drafts), name="revoke")
        self._appending.add(task)
        task.add_done_callback(self._appended)
        return await asyncio.shield(task)

    async def _append(self, drafts: Sequence[RevocationDraft]) -> Cursor:
        head, entries = await self._log.append(drafts)
        self._tailer.offer(head, entries)
        if self._publish is not None:
            self._publish(entries)
        return Cursor(head.epoch, head.sequence)

    def _appended(self, task: asyncio.Task[Cursor]) -> None:
        self._appending.discard(task)
        if not task.cancelled():
            task.exception()  # seen, even if its caller has gone


async def carry_out(
    draft: RevocationDraft,
    append: Callable[[Sequence[RevocationDraft]], Awaitable[Cursor]],
    key_manager: KeyManager,
    audit: Audit,
) -> Cursor:
    """Append a revocation, with what goes before and after it if it is a key's; a place in the log that
    includes it.
    """
    if draft.target is RevocationTarget.KEY:
        async with key_manager.revoking(draft.value):
            cursor = await append([draft])
    else:
        cursor = await append([draft])
    audit.record(
        "revoked",
        target=draft.target.name,
        value=draft.value,
        reason=draft.reason.name,
        comment=draft.comment,
        cursor=str(cursor),
    )
    return cursor
