"""The state of a login between its begin and its callback: sealed, in a cookie of the browser that began it."""

from __future__ import annotations

import hmac
import secrets
from hashlib import sha256
from typing import Final

import msgspec

from token_service.errors import KeysStaleError
from token_service.tokens import base64url
from token_service.tokens.opaque_token import MacKeys, OpaqueTokenError
from token_service.tokens.sealed import NONCE_BYTES, open_sealed, seal

LOGIN_TTL: Final = 600.0
"""Seconds for a login, from its begin to its callback."""
_PURPOSE: Final = "bff-login"


class LoginState(msgspec.Struct, frozen=True):
    """One login. `state` and `nonce` name it to the provider, and the verifier proves that this server began it."""

    state: str
    nonce: str
    verifier: str
    return_to: str
    issuer: str
    expire_time: float
    previous: str
    """The key of the session that the browser had; empty without one. The callback may come without a `Strict` cookie."""

    def __repr__(self) -> str:
        return "LoginState(***)"

    @property
    def challenge(self) -> str:
        """The PKCE challenge (RFC 7636, section 4.2: S256)."""
        return base64url.encode(sha256(self.verifier.encode()).digest())

    @classmethod
    def begin(cls, return_to: str, issuer: str, previous: str, now: float) -> LoginState:
        """Return a new login with three independent secrets of 256 bits."""
        state, nonce, verifier = (secrets.token_urlsafe(32) for _ in range(3))
        return cls(state, nonce, verifier, return_to, issuer, now + LOGIN_TTL, previous)


def seal_login(login: LoginState, keys: MacKeys) -> str:
    """Return the value of the login cookie."""
    return seal(keys, _PURPOSE, msgspec.json.encode(login), secrets.token_bytes(NONCE_BYTES))


def open_login(sealed: str, keys: MacKeys, now: float) -> LoginState | None:
    """Return the login in a cookie; None if the cookie is not one of this application, or too old."""
    try:
        login = msgspec.json.decode(open_sealed(keys, _PURPOSE, sealed), type=LoginState)
    except (OpaqueTokenError, KeysStaleError, msgspec.MsgspecError):
        return None
    return login if now < login.expire_time else None


def is_state_of(login: LoginState, state: str, issuer: str) -> bool:
    """Return whether a callback belongs to this login at this provider."""
    return login.issuer == issuer and hmac.compare_digest(login.state.encode(), state.encode())
