"""Drafts: the log entry that a RevokeToken call becomes."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit_client, deny_outside_clients
from token_service.core.access.rates import Rates
from token_service.core.events.event import NO_ORIGIN, Action, Actor, AuditEvent, Origin, Target
from token_service.core.keys.opaque_tokens import LookForKeys, OpaqueTokens
from token_service.core.policies.rates import Operation
from token_service.core.policies.rights import Permission
from token_service.core.revocation.commands import RevokeCommand, check_command
from token_service.core.revocation.log import RevocationDraft
from token_service.core.revocation.read_index import ReadIndex
from token_service.core.revocation.replica import Replica
from token_service.core.sessions.store import SessionStore
from token_service.errors import InvalidReason, InvalidTokenError, SessionNotFoundError
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL, TokenKind, VerifiedClaims
from token_service.tokens.opaque_token import OpaqueTokenError, looks_opaque
from token_service.tokens.revocation import MAX_LEEWAY, RevocationReason, RevocationTarget
from token_service.tokens.verifier import Verifier

REMEMBER: Final = MAX_ACCESS_TOKEN_TTL + MAX_LEEWAY
"""Seconds an entry is kept: no JWT issued before it can be valid longer, at any validator."""


def draft_of(
    target: RevocationTarget,
    value: str,
    now: float,
    *,
    reason: RevocationReason = RevocationReason.UNSPECIFIED,
    comment: str = "",
    token_expire_time: int | None = None,
) -> RevocationDraft:
    """Return a draft that is kept for as long as a token that it revokes can be valid."""
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


def event_of(draft: RevocationDraft, actor: Actor, origin: Origin = NO_ORIGIN) -> AuditEvent:
    """Return the audit event of a revocation by `actor`."""
    value, target = draft.value, draft.target
    return AuditEvent(
        action=Action.REVOKED,
        actor=actor,
        target=Target(
            target.name.lower(),
            value,
            subject=value if target is RevocationTarget.SUBJECT else "",
            session_id=value if target is RevocationTarget.SESSION else "",
            client_id=value if target is RevocationTarget.CLIENT else "",
        ),
        reason=draft.reason.name,
        comment=draft.comment,
        origin=origin,
    )


class Drafts:
    """Finds the target of a command: reads the token that it names, and counts the call against the rates of its caller."""

    def __init__(
        self,
        verifier: Verifier,
        opaque_tokens: OpaqueTokens,
        look_for_keys: LookForKeys,
        read_index: ReadIndex,
        replica: Replica,
        sessions: SessionStore,
        rates: Rates,
    ) -> None:
        self._verifier = verifier
        self._opaque_tokens = opaque_tokens
        self._look_for_keys = look_for_keys
        self._read_index = read_index
        self._replica = replica
        self._sessions = sessions
        self._rates = rates

    async def of(self, caller: Caller, command: RevokeCommand, now: float) -> RevocationDraft | None:
        """Return the entry to append; None if the command can match no valid token, such as one that is revoked already.

        Raises `InvalidRequestError`, `RateLimitedError` if the caller has revoked too much, and
        `StoreUnavailableError`. A caller that may revoke for some clients only gets `PermissionDeniedError` for
        other targets, and `SessionNotFoundError` for a session that is unknown or of another client.
        """
        if caller.rights.rates:
            await self._rates.take_of_caller(caller, Operation.REVOKE)
        draft, client_id = await self.resolve(command, now)
        if not caller.rights.are_unbounded(Permission.REVOKE):
            await self._require_within(caller, command, draft, client_id)
        if draft is not None and _is_unbounded(draft):
            await self._rates.take_names(caller)
        # A call that waits appends its entry again, because that makes other nodes ask their subscribers to confirm.
        if draft is not None and command.token and command.wait is None and await self._is_in_log(draft):
            return None
        return draft

    async def _is_in_log(self, draft: RevocationDraft) -> bool:
        """Tell whether the log has the entry for a presented JWT.

        Anyone can present a JWT again and again, through a public client. Each entry goes to every subscriber.
        """
        if draft.target is not RevocationTarget.TOKEN_ID:
            return False  # the log has each session once
        if not self._replica.revocations.has_token_id(draft.value, draft.token_expire_time):
            return False
        return (await self._read_index.head()).epoch == self._replica.epoch  # else the entry may be lost

    async def _require_within(
        self, caller: Caller, command: RevokeCommand, draft: RevocationDraft | None, client_id: str
    ) -> None:
        """Raise unless the target belongs to a client that the caller may revoke for."""
        target = command.target if draft is None else draft.target
        if target is RevocationTarget.SESSION:
            session = None if draft is None else await self._sessions.get(UUID(draft.value))
            client_id = "" if session is None else session.client_id
            if session is None or not caller.rights.cover_client(Permission.REVOKE, client_id):
                raise SessionNotFoundError
        elif client_id:
            admit_client(caller, UseCase.REVOKE_TOKEN, client_id)
        elif target is not None:
            raise deny_outside_clients(Permission.REVOKE, f"a {target.name.lower()}".replace("_", " "))

    async def resolve(self, command: RevokeCommand, now: float) -> tuple[RevocationDraft | None, str]:
        """Return the draft that a command becomes, and the client that its target names. Changes nothing.

        No draft: no valid token can match. No client: the target names none. Raises `InvalidRequestError` and
        `StoreUnavailableError`.
        """
        check_command(command)
        if command.target is None:
            return await self._resolve_token(command, now)
        value = command.value
        if command.target is RevocationTarget.SESSION:
            try:
                value = str(UUID(value))
            except ValueError:
                return None, ""
        elif command.target is RevocationTarget.EVERYTHING:
            value = ""
        client_id = value if command.target is RevocationTarget.CLIENT else ""
        return draft_of(command.target, value, now, reason=command.reason, comment=command.comment), client_id

    async def _resolve_token(self, command: RevokeCommand, now: float) -> tuple[RevocationDraft | None, str]:
        if looks_opaque(command.token):
            try:
                opaque = await self._opaque_tokens.read(command.token)
            except OpaqueTokenError:
                return None, ""
            session_id = str(opaque.session_id)
            draft = draft_of(
                RevocationTarget.SESSION, session_id, now, reason=command.reason, comment=command.comment
            )
            return draft, ""
        claims = await self._claims(command.token)
        if claims is None or not claims.token_id:
            return None, ""
        end = claims.expire_time + MAX_LEEWAY
        # Without an entry the token stays valid, so this node's clock, which may be ahead, must not decide alone.
        if end <= now and end <= (await self._read_index.head()).read_time:
            return None, ""
        draft = draft_of(
            RevocationTarget.TOKEN_ID,
            claims.token_id,
            now,
            reason=command.reason,
            comment=command.comment,
            # The tokens of one transaction have different expiries, and all of them end.
            token_expire_time=None if claims.kind is TokenKind.TRANSACTION else int(claims.expire_time),
        )
        return draft, claims.client_id

    async def _claims(self, token: str) -> VerifiedClaims | None:
        """Return the claims of an authentic JWT, or None.

        If the key is unknown, look for it once: another node may have just made it.
        """
        try:
            return self._verifier.verify(token)
        except InvalidTokenError as error:
            if error.reason is not InvalidReason.UNKNOWN_KEY or not await self._look_for_keys(None):
                return None
        try:
            return self._verifier.verify(token)
        except InvalidTokenError:
            return None


def _is_unbounded(draft: RevocationDraft) -> bool:
    """Tell whether a draft takes memory on every node even if its name does not exist.

    Sessions, keys and presented tokens must exist.
    """
    if draft.target is RevocationTarget.TOKEN_ID:
        return draft.token_expire_time is None
    return draft.target in {RevocationTarget.SUBJECT, RevocationTarget.CLIENT}
