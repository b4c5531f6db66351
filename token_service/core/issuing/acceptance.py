"""Acceptance of a refresh token: the one statement that exchanges it, or that repeats the exchange before."""

from __future__ import annotations

from token_service.core.issuing.commands import RefreshCommand
from token_service.core.keys.keyring import Keyring
from token_service.core.policies.policy import Policy
from token_service.core.sessions.session import Session
from token_service.core.sessions.store import Judged, Retry, Rotation, SessionStore, Use
from token_service.errors import RefreshTokenInvalidError
from token_service.tokens.opaque_token import OpaqueToken


class Acceptance:
    """Accepts refresh tokens. Each method returns None if the row of the session does not match, or is not the one judged."""

    def __init__(self, sessions: SessionStore, keyring: Keyring) -> None:
        self._sessions = sessions
        self._keyring = keyring

    async def exchange(
        self,
        command: RefreshCommand,
        presented: OpaqueToken,
        policy: Policy,
        judged: Judged | None,
        now: float,
    ) -> tuple[Session, OpaqueToken] | None:
        """Accept the current token, and replace it if the policy says so."""
        if policy.rotate:
            return await self._rotate(command, presented, policy, judged, now)
        return await self._keep(command, presented, policy, judged, now)

    async def _rotate(
        self,
        command: RefreshCommand,
        presented: OpaqueToken,
        policy: Policy,
        judged: Judged | None,
        now: float,
    ) -> tuple[Session, OpaqueToken] | None:
        keys = self._keyring.mac_keys
        successor = presented.successor(keys, keys.active)
        session = await self._sessions.rotate(
            Rotation(
                session_id=presented.session_id,
                client_id=command.client_id,
                device_id=command.device_id,
                generation=presented.generation,
                proved=command.keys.confirmations,
                current_hash=presented.secret_hash,
                next_hash=successor.secret_hash,
                key_version=successor.key_version,
                now=now,
                idle_expire_time=now + policy.idle_timeout,
                origin=command.client_context,
                judged=judged,
            )
        )
        return None if session is None else (session, successor)

    async def _keep(
        self,
        command: RefreshCommand,
        presented: OpaqueToken,
        policy: Policy,
        judged: Judged | None,
        now: float,
    ) -> tuple[Session, OpaqueToken] | None:
        """Accept the current token without replacing it."""
        session = await self._sessions.get(presented.session_id)
        if session is None or session.generation != presented.generation:
            return None
        if session.client_id != command.client_id or session.device_id not in ("", command.device_id):
            return None
        if session.confirmation and session.confirmation not in command.keys.confirmations:
            return None
        used = await self._sessions.use(
            Use(
                session_id=presented.session_id,
                now=now,
                idle_expire_time=now + policy.idle_timeout,
                refresh_hash=presented.secret_hash,
                origin=command.client_context,
                judged=judged,
            )
        )
        return None if used is None else (used, presented)

    async def retry(
        self,
        command: RefreshCommand,
        presented: OpaqueToken,
        policy: Policy,
        judged: Judged | None,
        now: float,
    ) -> tuple[Session, OpaqueToken] | None:
        """Return the same successor again, after a race or a lost response."""
        session = await self._sessions.retry(
            Retry(
                session_id=presented.session_id,
                client_id=command.client_id,
                device_id=command.device_id,
                generation=presented.generation,
                proved=command.keys.confirmations,
                previous_hash=presented.secret_hash,
                rotated_after=now - policy.grace_period,
                max_retries=policy.max_retries,
                now=now,
                judged=judged,
            )
        )
        if session is None:
            return None
        successor = presented.successor(self._keyring.mac_keys, session.key_version)
        if successor.secret_hash != session.refresh_hash:
            raise RefreshTokenInvalidError  # the row was not written by a rotation of this token
        return session, successor
