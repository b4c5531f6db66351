"""PreviewRevocation: what a revocation would reach. Nothing here changes any state."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final
from uuid import UUID

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.keys.store import SigningKeyState
from token_service.core.keys.table import KeyTable
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import Policy
from token_service.core.revocation.commands import RevokeCommand
from token_service.core.revocation.drafts import Drafts
from token_service.core.revocation.entries import RevocationEntries
from token_service.core.revocation.log import RevocationDraft
from token_service.core.revocation.replica import Replica
from token_service.core.sessions.selection import (
    EVERY_SESSION,
    Accuracy,
    SessionReach,
    SessionSelection,
    SessionSelections,
)
from token_service.core.sessions.session import SessionState
from token_service.core.sessions.store import SessionStore
from token_service.core.subscribers.reports import Reports
from token_service.errors import PolicyViolationError
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import RevocationTarget

_MANY: Final = 1000
"""Sessions of one client whose loss at once deserves a warning."""
_NO_REACH: Final = SessionReach()


@dataclass(frozen=True, slots=True, kw_only=True)
class RevocationPreview:
    """What a revocation would reach."""

    target: str
    """The target as it would be revoked, such as `session 0b6f…`."""
    reach: SessionReach = _NO_REACH
    tokens_expire_time: float | None = None
    """The time by which every token that would be revoked has expired anyway; None: there is none."""
    subscribers: int = 0
    already_revoked: bool = False
    warnings: Sequence[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PreviewSources:
    """What a preview reads."""

    drafts: Drafts
    sessions: SessionStore
    selections: SessionSelections
    entries: RevocationEntries
    replica: Replica
    keys: KeyTable
    reports: Reports
    policies: Policies


class RevocationPreviews:
    """Previews revocations."""

    def __init__(self, sources: PreviewSources) -> None:
        self._from = sources

    async def preview(self, caller: Caller, command: RevokeCommand, now: float) -> RevocationPreview:
        """Tell what a command of RevokeToken would reach now.

        Raises `PermissionDeniedError`, `InvalidRequestError` and `StoreUnavailableError`.
        """
        admit(caller, UseCase.PREVIEW_REVOCATION)
        draft, client_id = await self._from.drafts.resolve(command, now)
        if draft is None:
            return RevocationPreview(
                target="no valid token",
                warnings=["the token is unknown, malformed or expired: nothing is revoked"],
            )
        found = await self._reach(draft, client_id, now)
        subscribers = (await self._from.reports.knowledge(0)).connected
        return replace(found, subscribers=0 if _has_no_effect(draft, found) else subscribers)

    async def _reach(self, draft: RevocationDraft, client_id: str, now: float) -> RevocationPreview:
        target = draft.target
        if target is RevocationTarget.SESSION:
            return await self._of_session(draft, now)
        if target is RevocationTarget.KEY:
            return await self._of_key(draft, now)
        if target is RevocationTarget.TOKEN_ID:
            return self._of_token(draft, client_id, now)
        return await self._of_owner(draft, now)

    async def _of_session(self, draft: RevocationDraft, now: float) -> RevocationPreview:
        preview = RevocationPreview(target=_name(draft))
        session = await self._from.sessions.get(UUID(draft.value))
        if session is None:
            return replace(preview, warnings=["no such session is known: nothing is revoked"])
        state = session.state(now)
        if state is SessionState.REVOKED:
            return replace(preview, already_revoked=True)
        policy = self._policy(session.client_id, session.audience)
        last_token = now + _longest(policy) if state is SessionState.ACTIVE else now + MAX_ACCESS_TOKEN_TTL
        reach = _NO_REACH
        if state is SessionState.ACTIVE:
            reach = SessionReach(
                sessions=1,
                subjects=1,
                clients=1,
                top_clients=[(session.client_id, 1)],
                oldest_create_time=session.create_time,
                last_expire_time=session.absolute_expire_time,
            )
            last_token = max(last_token, session.absolute_expire_time)
        warnings = (
            [] if reach.sessions else ["the session has expired; only its last access tokens may be valid"]
        )
        return replace(preview, reach=reach, tokens_expire_time=last_token, warnings=warnings)

    async def _of_key(self, draft: RevocationDraft, now: float) -> RevocationPreview:
        preview = RevocationPreview(target=_name(draft))
        stored = await self._from.keys.load()
        key = next((key for key in stored.signing_keys if key.key_id == draft.value), None)
        if key is None:
            return replace(preview, warnings=["no such key is known: nothing is revoked"])
        if key.state is SigningKeyState.REVOKED:
            return replace(preview, already_revoked=True)
        warnings = []
        if key.state is SigningKeyState.ACTIVE:
            warnings.append(
                "the key signs now: every valid JWT that it signed is refused at once, and another key replaces it; "
                "sessions stay, so clients get new tokens with their refresh tokens. RetireSigningKey replaces a key "
                "without any loss"
            )
        signed = key.state is not SigningKeyState.PREPARED
        return replace(
            preview, tokens_expire_time=now + self._longest_of_all() if signed else None, warnings=warnings
        )

    def _of_token(self, draft: RevocationDraft, client_id: str, now: float) -> RevocationPreview:
        end = draft.token_expire_time
        longest = _longest(self._policy(client_id)) if client_id else self._longest_of_all()
        return RevocationPreview(
            target=_name(draft),
            tokens_expire_time=now + longest if end is None else end,
            already_revoked=self._from.replica.revocations.has_token_id(draft.value, end),
        )

    async def _of_owner(self, draft: RevocationDraft, now: float) -> RevocationPreview:
        """Preview the revocation of a subject, a client or everything."""
        selection, longest = EVERY_SESSION, self._longest_of_all()
        if draft.target is RevocationTarget.SUBJECT:
            selection = SessionSelection(subject=draft.value)
        elif draft.target is RevocationTarget.CLIENT:
            selection = SessionSelection(client_id=draft.value)
            longest = _longest(self._policy(draft.value))
        reach = await self._from.selections.reach(selection, live_at=now)
        has_floor = await self._from.entries.has_floor(draft.target, draft.value)
        return RevocationPreview(
            target=_name(draft),
            reach=reach,
            tokens_expire_time=max(now + longest, reach.last_expire_time or 0.0),
            already_revoked=has_floor and not reach.sessions,
            warnings=_warnings(draft, reach),
        )

    def _policy(self, client_id: str, audience: Sequence[str] = ()) -> Policy | None:
        try:
            return self._from.policies.of(client_id, audience)
        except PolicyViolationError:
            return None  # no policy is in force for the client, but its tokens of before are valid

    def _longest_of_all(self) -> float:
        return max(map(_longest, self._from.policies.book.policies.values()))


def _longest(policy: Policy | None) -> float:
    """Return the longest lifetime of a JWT by a policy, in seconds."""
    if policy is None:
        return float(MAX_ACCESS_TOKEN_TTL)
    return float(max(policy.access_token_ttl, policy.id_token_ttl, policy.transaction_token_ttl))


def _name(draft: RevocationDraft) -> str:
    return f"{draft.target.name.lower().replace('_', ' ')} {draft.value}".rstrip()


def _has_no_effect(draft: RevocationDraft, preview: RevocationPreview) -> bool:
    """Tell whether the log would get no entry: it leaves out unknown and revoked sessions and keys."""
    conditional = draft.target in {RevocationTarget.SESSION, RevocationTarget.KEY}
    unknown = preview.tokens_expire_time is None and not preview.already_revoked
    return conditional and (preview.already_revoked or (unknown and bool(preview.warnings)))


def _warnings(draft: RevocationDraft, reach: SessionReach) -> Sequence[str]:
    warnings = []
    if draft.target is RevocationTarget.EVERYTHING:
        warnings.append("every session of every subject ends, and every client must begin again")
    elif reach.sessions >= _MANY and reach.top_clients:
        client_id, sessions = reach.top_clients[0]
        warnings.append(f"client {client_id!r} loses {sessions:,} sessions at once: expect as many logins")
    if reach.accuracy is Accuracy.ESTIMATE:
        warnings.append(
            "the number of sessions is an estimate; subjects and clients are those of a sample of them"
        )
    elif reach.accuracy is Accuracy.AT_LEAST:
        warnings.append("there are more sessions than were counted: every number is a lower bound")
    return warnings
