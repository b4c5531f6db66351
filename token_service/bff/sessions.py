"""Sessions as the backend-for-frontend reads and writes them: sealed content in a store, under the digest of an id."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

import msgspec

from token_service.bff.config import BffConfig
from token_service.bff.provider import TokenAnswer
from token_service.bff.provider_tokens import LogoutToken
from token_service.bff.store import Logout, SessionStore, StoredSession
from token_service.errors import StoreUnavailableError
from token_service.tokens import base64url
from token_service.tokens.opaque_token import NewerKeyError, OpaqueTokenError
from token_service.tokens.sealed import NONCE_BYTES, open_sealed, seal

MAX_CONTENT: Final = 128 * 1024
"""Characters of the sealed content of a session. Three tokens of the largest size and their claims fit."""
_TOUCHES: Final = 20
"""The idle time is written this often within its length, so that not every request writes."""
_RENEWED_AFTER: Final = 0.75
"""The part of an access token's life after which a renewal begins, if that is later than `renew_ahead` says."""


class SessionContent(msgspec.Struct, frozen=True):
    """What a session holds. Only its sealed form leaves the process."""

    claims: dict[str, Any]
    access_token: str
    access_expire_time: float
    renew_time: float
    """From when the access token is renewed."""
    refresh_token: str | None
    id_token: str

    def __repr__(self) -> str:
        return "SessionContent(***)"


@dataclass(frozen=True, slots=True)
class OpenedSession:
    """A session as it was read."""

    stored: StoredSession
    content: SessionContent

    @property
    def expire_time(self) -> float:
        """When the session is over without a further request."""
        return min(self.stored.expire_time, self.stored.idle_expire_time)


class Sessions:
    """The sessions of one application at one provider."""

    def __init__(self, store: SessionStore, config: BffConfig) -> None:
        self.store: Final = store
        self._keys = config.sealing_keys
        # Applications that share a store never see or end each other's sessions.
        self._scope = f"{config.provider.issuer}\0{config.provider.client.client_id}"
        self._rules = config.sessions

    async def create(self, claims: dict[str, Any], tokens: TokenAnswer, sent_at: float, now: float) -> str:
        """Store a new session and return its id. `sent_at`: when the tokens were asked for.

        A session without a refresh token ends with its access token. Raises `StoreUnavailableError`.
        """
        session_id = secrets.token_urlsafe(32)
        key = key_of(session_id)
        content = self.content(claims, tokens, tokens.id_token or "", sent_at)
        end = now + self._rules.absolute_timeout
        if content.refresh_token is None:
            end = min(end, content.access_expire_time)
        sid = claims.get("sid")
        stored = StoredSession(
            key=key,
            subject=self._digest("sub", claims["sub"]),
            sid=self._digest("sid", sid) if isinstance(sid, str) and sid else "",
            payload=self.seal(key, content),
            expire_time=end,
            idle_expire_time=now + self._rules.idle_timeout,
        )
        await self.store.create(stored, now, self._rules.per_user)
        return session_id

    async def load(self, key: str, now: float) -> OpenedSession | None:
        """Return a session; None if it is over or can't be opened any more. Raises `StoreUnavailableError`."""
        stored = await self.store.load(key, now)
        return None if stored is None else self.open(stored)

    def open(self, stored: StoredSession) -> OpenedSession | None:
        """Open what a store returned; None if no key opens it, or if it is the content of another session.

        Raises `StoreUnavailableError` if it is sealed with a newer key, which other processes have already.
        """
        try:
            data = open_sealed(self._keys, self._purpose(stored.key), stored.payload, max_length=MAX_CONTENT)
            return OpenedSession(stored, msgspec.json.decode(data, type=SessionContent))
        except NewerKeyError:
            raise StoreUnavailableError(
                "the session is sealed with a newer key than this process has; give all processes the same keys",
                retry_after=5.0,
            ) from None
        except (OpaqueTokenError, msgspec.MsgspecError):
            return None

    def seal(self, key: str, content: SessionContent) -> str:
        """Return the payload of a session."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return seal(
            self._keys, self._purpose(key), msgspec.json.encode(content), nonce, max_length=MAX_CONTENT
        )

    def content(
        self, claims: dict[str, Any], tokens: TokenAnswer, id_token: str, sent_at: float
    ) -> SessionContent:
        """Return the content for tokens that were asked for at `sent_at`."""
        ahead = min(self._rules.renew_ahead, tokens.lifetime * (1 - _RENEWED_AFTER))
        return SessionContent(
            claims=claims,
            access_token=tokens.access_token,
            access_expire_time=sent_at + tokens.lifetime,
            renew_time=sent_at + tokens.lifetime - ahead,
            refresh_token=tokens.refresh_token,
            id_token=id_token,
        )

    async def touch(self, opened: OpenedSession, now: float) -> None:
        """Count a request of the user. Raises `StoreUnavailableError`."""
        idle_expire_time = now + self._rules.idle_timeout
        if idle_expire_time - opened.stored.idle_expire_time >= self._rules.idle_timeout / _TOUCHES:
            await self.store.touch(opened.stored.key, idle_expire_time)

    async def log_out(self, token: LogoutToken, now: float) -> int | None:
        """Delete the sessions that a logout token means; None if the token was used before."""
        logout = Logout(
            token_id=self._digest("jti", token.token_id),
            expire_time=token.expire_time,
            subject=self._digest("sub", token.subject) if token.subject else "",
            sid=self._digest("sid", token.sid) if token.sid else "",
        )
        return await self.store.log_out(logout, now)

    async def use_state(self, state: str, expire_time: float, now: float) -> bool:
        """Mark a login as completed; return False if it was before."""
        return await self.store.use_once(self._digest("state", state), expire_time, now)

    def _purpose(self, key: str) -> str:
        """Return the purpose of the seal, which binds the content to the application and to its place in the store."""
        return f"bff-session\0{self._scope}\0{key}"

    def _digest(self, kind: str, value: str) -> str:
        return _digest(f"{kind}\0{self._scope}\0{value}")


def key_of(session_id: str) -> str:
    """Return the name of a session in its store, from which its id can't be found."""
    return _digest(session_id)


def _digest(text: str) -> str:
    return base64url.encode(sha256(text.encode("utf-8", "surrogatepass")).digest())
