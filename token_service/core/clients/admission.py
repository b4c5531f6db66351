"""Admission: whether a client may get tokens."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from token_service.core.clients.client import Client, ClientState
from token_service.core.clients.registry import ClientRegistry
from token_service.core.policies.policy import Policies
from token_service.errors import ClientDisabledError, ClientNotFoundError, PolicyViolationError


class ClientAdmission:
    """Decides for the calls that issue and refresh tokens, without I/O. `policies` has the rules for a client that is admitted."""

    def __init__(self, clients: ClientRegistry, policies: Policies, *, require_registered: bool) -> None:
        """`require_registered`: a client that is not in the registry gets no tokens."""
        self.policies: Final = policies
        self._clients: Final = clients
        self._require_registered: Final = require_registered

    def get(self, client_id: str) -> Client | None:
        """Return a client in any state; None if it is not in the registry."""
        return self._clients.get(client_id)

    def is_registered(self, client_id: str) -> bool:
        """Tell whether a client is in the registry, in any state."""
        return self._clients.get(client_id) is not None

    def require(self, client_id: str, scopes: Sequence[str] = (), audience: Sequence[str] = ()) -> None:
        """Raise an error unless a client may get tokens with these scopes for this audience.

        Raises `ClientDisabledError`, `ClientNotFoundError` and `PolicyViolationError`.
        """
        client = self._clients.get(client_id)
        if client is None:
            if self._require_registered:
                raise ClientNotFoundError(metadata={"client_id": client_id})
        elif client.state is not ClientState.ACTIVE:
            raise ClientDisabledError(metadata={"client_id": client_id})
        else:
            _require_within("scopes", scopes, client.scopes)
            _require_within("audience", audience, client.audiences)


def _require_within(field: str, asked: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise `PolicyViolationError` if a value is not among those that a client is registered for; empty: any."""
    if not allowed:
        return
    for value in asked:
        if value not in allowed:
            raise PolicyViolationError(
                f"{field}: the client is not registered for {value!r}", metadata={"field": field}
            )
