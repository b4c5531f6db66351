"""RevokeSigningKey: refuse a key and all tokens it signed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.event import Actor
from token_service.core.keys.keyring import Keyring
from token_service.core.keys.store import SigningKeyState, StoredSigningKey
from token_service.core.revocation.commands import RevokeCommand, check_command
from token_service.core.revocation.drafts import draft_of
from token_service.core.revocation.log import RevocationDraft
from token_service.errors import ConfigurationError
from token_service.tokens.revocation import Cursor, RevocationTarget


@dataclass(frozen=True, slots=True)
class RevokedKey:
    """A revoked key, and a place in the log that includes its revocation."""

    key: StoredSigningKey
    cursor: Cursor


class KeyRevocation:
    """Revokes signing keys, inside a running node or from the command line."""

    def __init__(
        self, keyring: Keyring, carry_out: Callable[[RevocationDraft, Actor], Awaitable[Cursor]]
    ) -> None:
        """`carry_out` makes a revocation durable and puts it into effect; see `Revoker.carry_out`."""
        self._keyring = keyring
        self._carry_out = carry_out

    async def revoke(self, caller: Caller, key_id: str, comment: str, now: float) -> RevokedKey:
        """Revoke a key; a repeated call has no further effect.

        Raises `PermissionDeniedError`, `InvalidRequestError`, `KeyNotFoundError` and `StoreUnavailableError`
        (the key may be revoked; repeat the call).
        """
        admit(caller, UseCase.REVOKE_SIGNING_KEY)
        check_command(RevokeCommand(target=RevocationTarget.KEY, value=key_id, comment=comment))
        # Another node may have just made the key. A damaged table must not prevent a revocation.
        with suppress(ConfigurationError):
            await self._keyring.refresh()
        self._keyring.get(key_id)
        draft = draft_of(RevocationTarget.KEY, key_id, now, comment=comment)
        cursor = await self._carry_out(draft, caller.actor())
        key = self._keyring.get(key_id)
        if key.state is not SigningKeyState.REVOKED:
            key = replace(key, state=SigningKeyState.REVOKED, revoke_time=now)
        return RevokedKey(key, cursor)
