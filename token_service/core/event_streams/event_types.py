"""The event types that receivers can get (CAEP 1.0, RISC 1.0), and those about a stream itself (SSF 1.0)."""

from __future__ import annotations

from typing import Final

_CAEP: Final = "https://schemas.openid.net/secevent/caep/event-type/"
_RISC: Final = "https://schemas.openid.net/secevent/risc/event-type/"
_SSF: Final = "https://schemas.openid.net/secevent/ssf/event-type/"

SESSION_REVOKED: Final = f"{_CAEP}session-revoked"
TOKEN_CLAIMS_CHANGE: Final = f"{_CAEP}token-claims-change"
CREDENTIAL_CHANGE: Final = f"{_CAEP}credential-change"
SESSIONS_REVOKED: Final = f"{_RISC}sessions-revoked"
CREDENTIAL_COMPROMISE: Final = f"{_RISC}credential-compromise"
ACCOUNT_PURGED: Final = f"{_RISC}account-purged"

VERIFICATION: Final = f"{_SSF}verification"
STREAM_UPDATED: Final = f"{_SSF}stream-updated"

SUPPORTED: Final = (
    SESSION_REVOKED,
    TOKEN_CLAIMS_CHANGE,
    CREDENTIAL_CHANGE,
    SESSIONS_REVOKED,
    CREDENTIAL_COMPROMISE,
    ACCOUNT_PURGED,
)
"""The types that a receiver can request."""
