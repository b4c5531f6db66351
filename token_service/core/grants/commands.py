"""What every grant has in common: the request of a client at the token endpoint."""

from __future__ import annotations

import msgspec

from token_service.core.access.proved_keys import NO_KEYS, ProvedKeys
from token_service.core.events.event import NO_ORIGIN, Origin


class GrantRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The parameters of a token request that do not depend on its grant type.

    Empty scopes and audience: the defaults of the client.
    """

    scopes: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()
    """The values of `resource` (RFC 8707) and `audience` (RFC 8693)."""
    origin: Origin = NO_ORIGIN
    keys: ProvedKeys = NO_KEYS
    """The keys that the client proves. New tokens are bound to one of them."""
