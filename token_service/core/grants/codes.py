"""Authorization codes (RFC 6749, section 4.1.2): sealed values that live for a minute.

A code is not stored. The session that it is exchanged for has a digest of the code, and at most one session with a
digest can exist. So a code is used exactly if its session exists, whatever crashes, and needs no row of its own. Only a
code that raises a session leaves a row: its use is recorded in the transaction that raises the session.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import msgspec

from token_service.core.entropy import Entropy
from token_service.core.keys.sealer import Sealer
from token_service.errors import GrantInvalidError, InvalidRequestError
from token_service.tokens.claims import AuthContext
from token_service.tokens.opaque_token import OpaqueTokenError

CODE_TTL: Final = 60.0
"""Seconds. RFC 6749 recommends at most ten minutes; a browser needs seconds."""
_ID_BYTES: Final = 16


class StepUp(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A session that a new authentication of its subject raises (RFC 9470)."""

    session_id: UUID
    before: AuthContext | None = None
    """The authentication context of the session when this was decided."""


class AuthorizationCode(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a login service or an upstream decided, for one client. Times are NumericDates."""

    id: bytes
    client_id: str
    redirect_uri: str
    code_challenge: str
    """The S256 challenge (RFC 7636, section 4.2)."""
    subject: str
    audience: tuple[str, ...]
    scopes: tuple[str, ...]
    expire_time: float
    revision: int
    """The head of the revocation log when the code was made: a later revocation of its subject ends it, too."""
    nonce: str = ""
    auth_context: AuthContext | None = None
    custom_claims: Mapping[str, Any] = {}
    identity_claims: Mapping[str, Any] = {}
    upstream: str = ""
    """The name of the upstream that authenticated the subject. Empty: a login service made the code by itself."""
    upstream_session: str = ""
    step_up: StepUp | None = None
    """The session that the code raises; None: it opens one."""
    dpop_jkt: str = ""
    """The thumbprint of the DPoP key that the exchange must prove (RFC 9449, section 10). Empty: any key, or none."""

    @property
    def digest(self) -> bytes:
        """The name of the code in the session that it is exchanged for."""
        return hashlib.sha256(b"authorization code\0" + self.id).digest()


_encode: Final = msgspec.msgpack.Encoder().encode
_decode: Final = msgspec.msgpack.Decoder(AuthorizationCode).decode


class Codes:
    """Makes and reads authorization codes."""

    def __init__(self, sealer: Sealer, entropy: Entropy) -> None:
        self._sealer = sealer
        self._entropy = entropy

    def new_id(self) -> bytes:
        """Return the id of a new code."""
        return self._entropy(_ID_BYTES)

    def format(self, code: AuthorizationCode) -> str:
        """Return the text of a code. Raises `InvalidRequestError` if its content is too long for a URL."""
        try:
            return self._sealer.seal(_encode(code))
        except ValueError:
            raise InvalidRequestError.of(
                "custom_claims", "and identity_claims make a code that is too long for a URL"
            ) from None

    async def read(self, text: str, now: float) -> AuthorizationCode:
        """Return an authentic code that has not expired.

        Raises `GrantInvalidError`, `KeysStaleError`, `StoreUnavailableError`.
        """
        try:
            code = _decode(await self._sealer.open(text))
        except (OpaqueTokenError, msgspec.MsgspecError):
            raise GrantInvalidError("code: it is not a code of this service") from None
        if code.expire_time <= now:
            raise GrantInvalidError("code: it has expired; start the authorization again")
        return code
