"""Admission: whether a client may get tokens."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from token_service.core.clients.client import Client, ClientState
from token_service.core.clients.documents import SCHEME
from token_service.core.clients.lookup import Clients
from token_service.core.policies.policy import Policies
from token_service.errors import (
    ClientDisabledError,
    ClientDocumentUnavailableError,
    ClientNotFoundError,
    OverloadedError,
    PolicyViolationError,
)


class ClientAdmission:
    """Decides for the calls that issue and refresh tokens, without I/O. `policies` has the rules for a client that is admitted."""

    def __init__(self, clients: Clients, policies: Policies, *, require_registered: bool) -> None:
        """`require_registered`: a client that neither is registered nor describes itself gets no tokens."""
        self.policies: Final = policies
        self._clients: Final = clients
        self._require_registered: Final = require_registered

    def get(self, client_id: str) -> Client | None:
        """Return a client in any state; None if it is unknown."""
        return self._clients.get(client_id)

    def is_registered(self, client_id: str) -> bool:
        """Tell whether a client is registered, in any state, or describes itself."""
        return self._clients.get(client_id) is not None

    async def resolve(self, client_id: str, asker: Hashable, *, required: bool = False) -> None:
        """Fetch the document of a client that describes itself, so that `require` and the policies know it.

        `asker`: see `Clients.resolve`. If the client need not be known, a failed fetch changes nothing. `required`: it must
        be, even where clients need not be registered. Raises `ClientDocumentUnavailableError` and `OverloadedError`.
        """
        if client_id.startswith(SCHEME):
            try:
                await self._clients.resolve(client_id, asker)
            except (ClientDocumentUnavailableError, OverloadedError):
                if required or self._require_registered:
                    raise

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

    def may_have_narrowed(self, client_id: str, since: float) -> bool:
        """Tell whether the registration of a client may have lost scopes or audiences since a time."""
        client = self._clients.get(client_id)
        return (
            client is not None
            and bool(client.scopes or client.audiences)
            and (client.describes_itself or client.update_time > max(client.create_time, since))
        )

    def registered(
        self, client_id: str, scopes: Sequence[str], audience: Sequence[str]
    ) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """Return the scopes and the audiences of an older grant that the client is still registered for.

        Raises `PolicyViolationError` if nothing is left of either.
        """
        client = self._clients.get(client_id)
        if client is None:
            return tuple(scopes), tuple(audience)
        return _still("scopes", scopes, client.scopes), _still("audience", audience, client.audiences)


def _still(field: str, held: Sequence[str], allowed: Sequence[str]) -> tuple[str, ...]:
    left = tuple(value for value in held if not allowed or value in allowed)
    if held and not left:
        raise PolicyViolationError(
            f"{field}: the client is registered for none of this grant any more", metadata={"field": field}
        )
    return left


def _require_within(field: str, asked: Sequence[str], allowed: Sequence[str]) -> None:
    """Raise `PolicyViolationError` if a value is not among those that a client is registered for; empty: any."""
    if not allowed:
        return
    for value in asked:
        if value not in allowed:
            raise PolicyViolationError(
                f"{field}: the client is not registered for {value!r}", metadata={"field": field}
            )
