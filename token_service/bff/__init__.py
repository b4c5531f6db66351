"""Backend-for-frontend: browser sessions at an OpenID provider, with the tokens on the server.

    app = BackendForFrontend(app, BffConfig(public_url="https://app.example", ...), MemorySessionStore())

The application reads its user with `session_of(scope)`. The adapters for shared stores are `bff.stores.sql` and
`bff.stores.redis`.
"""

from __future__ import annotations

from token_service.bff.browser_session import BrowserSession, session_of
from token_service.bff.client_authentication import (
    ClientAuthentication,
    ClientSecretBasic,
    PrivateKeyJwt,
    Proof,
)
from token_service.bff.config import (
    BffConfig,
    Provider,
    ProviderLogout,
    RequestRules,
    SameSite,
    SessionRules,
)
from token_service.bff.failures import ProviderUnavailableError, SessionEndedError
from token_service.bff.middleware import BackendForFrontend
from token_service.bff.store import Logout, SessionStore, StoredSession
from token_service.bff.stores.memory import MemorySessionStore

__all__ = [
    "BackendForFrontend",
    "BffConfig",
    "BrowserSession",
    "ClientAuthentication",
    "ClientSecretBasic",
    "Logout",
    "MemorySessionStore",
    "PrivateKeyJwt",
    "Proof",
    "Provider",
    "ProviderLogout",
    "ProviderUnavailableError",
    "RequestRules",
    "SameSite",
    "SessionEndedError",
    "SessionRules",
    "SessionStore",
    "StoredSession",
    "session_of",
]
