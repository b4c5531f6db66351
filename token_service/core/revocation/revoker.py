"""RevokeToken: durable first, then everywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final
from uuid import UUID

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.access.quotas import RateQuota
from token_service.core.events.audit import Audit
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.manager import KeyManager
from token_service.core.keys.opaque_tokens import read_opaque_token
from token_service.core.limits import (
    MAX_CLIENT_ID,
    MAX_COMMENT,
    MAX_KEY_ID,
    MAX_SUBJECT,
    MAX_TOKEN_ID,
    MAX_WAIT,
    Checks,
)
from token_service.core.revocation.log import RevocationDraft, RevocationLog
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.tailer import Tailer
from token_service.core.subscribers.registry import Validators
from token_service.errors import InvalidReason, InvalidRequestError, InvalidTokenError, OverloadedError
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL, VerifiedClaims
from token_service.tokens.opaque_token import OpaqueTokenError, looks_opaque
from token_service.tokens.revocation import MAX_LEEWAY, Cursor, Revocation, RevocationReason, RevocationTarget
from token_service.tokens.verifier import Verifier


@dataclass(frozen=True, slots=True, kw_only=True)
class RevokeCommand:
    """Revoke one thing: a `token`, or a `target` with its `value`."""

    token: str = field(default="", repr=False)
    target: RevocationTarget | None = None
    value: str = ""
    reason: RevocationReason = RevocationReason.UNSPECIFIED
    comment: str = ""
    wait: float | None = None
    """Seconds to wait at most until every connected validator has confirmed; None: don't wait."""


@dataclass(frozen=True, slots=True)
class RevokeOutcome:
    """A place in the log that includes the revocation; how many validators have it, if the call waited."""

    cursor: Cursor
    connected: int = 0
    applied: int = 0
    silent: int = 0
    """Validators besides those that were not waited for, because they had not confirmed for long."""


REMEMBER: Final = MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY
"""Seconds an entry is kept: no JWT issued before it can be valid longer, at any validator."""

_WIDE: Final = frozenset({RevocationTarget.KEY, RevocationTarget.EVERYTHING})

_LIMITS: Final = {
    RevocationTarget.TOKEN_ID: ("token_id", MAX_TOKEN_ID),
    RevocationTarget.SUBJECT: ("subject", MAX_SUBJECT),
    RevocationTarget.CLIENT: ("client_id", MAX_CLIENT_ID),
    RevocationTarget.KEY: ("key_id", MAX_KEY_ID),
}


class Revoker:
    """Appends to the revocation log and sees that this node knows at once."""

    def __init__(
        self,
        log: RevocationLog,
        tailer: Tailer,
        read_index: ReadIndex,
        verifier: Verifier,
        keyring: Keyring,
        key_manager: KeyManager,
        validators: Validators,
        audit: Audit,
        *,
        quota: RateQuota,
        publish: Callable[[Sequence[Revocation]], None] | None = None,
    ) -> None:
        """`quota` is what each caller may revoke of names that need not exist; `publish` is told of what this
        node has appended, to pass it on.
        """
        self._quota = quota
        self._log = log
        self._tailer = tailer
        self._read_index = read_index
        self._verifier = verifier
        self._keyring = keyring
        self._key_manager = key_manager
        self._validators = validators
        self._audit = audit
        self._publish = publish
        # Whoever waits, and at whichever node: each asks its own validators.
        tailer.on_head(lambda head: validators.heard(head.awaited))
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
        draft = await self._resolve(command, now)
        if draft is not None and _is_unbounded(draft):
            self._spend(caller.identity)
        if draft is None:
            head = await self._read_index.head()
            cursor = Cursor(head.epoch, head.sequence)
        else:
            draft = replace(draft, awaited=command.wait is not None)
            cursor = await self.carry_out(draft)
        if command.wait is None:
            return RevokeOutcome(cursor)
        connected, applied = await self._validators.wait_applied(cursor.sequence, command.wait)
        return RevokeOutcome(cursor, connected, applied, self._validators.silent)

    async def carry_out(self, draft: RevocationDraft) -> Cursor:
        """Append a draft with what its target needs; a place in the log that includes it."""
        return await carry_out(draft, self.append, self._key_manager, self._audit)

    def _spend(self, caller: str) -> None:
        try:
            self._quota.spend(caller)
        except OverloadedError as error:
            raise OverloadedError(
                f"{error.message} a minute; spread them over time, or revoke a whole client or everything at once",
                metadata=error.metadata,
                retry_after=error.retry_after,
            ) from None

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

    @staticmethod
    def draft(
        target: RevocationTarget,
        value: str,
        now: float,
        *,
        reason: RevocationReason = RevocationReason.UNSPECIFIED,
        comment: str = "",
        token_expire_time: int | None = None,
    ) -> RevocationDraft:
        """A draft that is remembered for as long as it can matter."""
        return RevocationDraft(
            target=target,
            value=value,
            revoke_time=now,
            expire_time=now + REMEMBER if token_expire_time is None else token_expire_time + MAX_LEEWAY,
            remember=REMEMBER if token_expire_time is None else None,
            reason=reason,
            comment=comment,
            token_expire_time=token_expire_time,
        )

    async def _resolve(self, command: RevokeCommand, now: float) -> RevocationDraft | None:
        """What to append; None: nothing can be hit."""
        check_command(command)
        if command.target is None:
            return await self._resolve_token(command, now)
        value = command.value
        if command.target is RevocationTarget.SESSION:
            try:
                value = str(UUID(value))
            except ValueError:
                return None
        elif command.target is RevocationTarget.EVERYTHING:
            value = ""
        return self.draft(command.target, value, now, reason=command.reason, comment=command.comment)

    async def _resolve_token(self, command: RevokeCommand, now: float) -> RevocationDraft | None:
        if looks_opaque(command.token):
            try:
                opaque = await read_opaque_token(command.token, self._keyring, self._tailer.look_for_keys)
            except OpaqueTokenError:
                return None
            session_id = str(opaque.session_id)
            return self.draft(
                RevocationTarget.SESSION, session_id, now, reason=command.reason, comment=command.comment
            )
        claims = await self._claims(command.token)
        if claims is None or not claims.token_id:
            return None
        end = claims.expire_time + MAX_LEEWAY
        # Without an entry the token stays good, so a clock that is ahead must not decide it alone.
        if end <= now and end <= (await self._read_index.head()).read_time:
            return None
        return self.draft(
            RevocationTarget.TOKEN_ID,
            claims.token_id,
            now,
            reason=command.reason,
            comment=command.comment,
            token_expire_time=int(claims.expire_time),
        )

    async def _claims(self, token: str) -> VerifiedClaims | None:
        """Those of an authentic JWT.

        Another node may just have made the key of one that can't be verified yet.
        """
        try:
            return self._verifier.verify(token)
        except InvalidTokenError as error:
            if error.reason is not InvalidReason.UNKNOWN_KEY or not await self._tailer.look_for_keys():
                return None
        try:
            return self._verifier.verify(token)
        except InvalidTokenError:
            return None


def _is_unbounded(draft: RevocationDraft) -> bool:
    """Whether it takes memory everywhere whatever it names: sessions, keys and tokens must exist."""
    if draft.target is RevocationTarget.TOKEN_ID:
        return draft.token_expire_time is None
    return draft.target in {RevocationTarget.SUBJECT, RevocationTarget.CLIENT}


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


def check_command(command: RevokeCommand) -> None:
    """Raise `InvalidRequestError` with everything that is wrong with a command."""
    if command.target is None and not command.token:
        raise InvalidRequestError.of(
            "target",
            "is required: one of token, token_id, session_id, subject, client_id, key_id, everything",
        )
    checks = Checks()
    checks.text("comment", command.comment, MAX_COMMENT)
    if command.target is RevocationTarget.SESSION:
        try:
            UUID(command.value)
        except ValueError:
            checks.add("session_id", "is not a UUID")
    elif command.target in _LIMITS:
        field_name, limit = _LIMITS[command.target]
        checks.text(field_name, command.value, limit, required=True)
    if command.wait is not None and not 0 < command.wait <= MAX_WAIT:
        checks.add("wait.timeout", f"is not from 0 to {MAX_WAIT:.0f} seconds")
    checks.done()
