"""Admission: whether a client may get tokens."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Final

from token_service.core.clients.client import Client, ClientState
from token_service.core.clients.documents import SCHEME
from token_service.core.clients.lookup import Clients
from token_service.core.clients.profile import FAPI_ALGORITHMS, FAPI_METHODS, is_fapi
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import Policy
from token_service.errors import (
    BindingRequiredError,
    ClientDisabledError,
    ClientDocumentUnavailableError,
    ClientNotFoundError,
    OverloadedError,
    PolicyViolationError,
)
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import Confirmation


class ClientAdmission:
    """Decides for the calls that issue and refresh tokens, without I/O. `policies` has the rules for a client that is admitted."""

    def __init__(
        self,
        clients: Clients,
        policies: Policies,
        *,
        require_registered: bool,
        signs_with: Callable[[], Algorithm],
    ) -> None:
        """`require_registered`: a client that neither is registered nor describes itself gets no tokens.

        `signs_with` returns the algorithm that signs tokens now, or raises `SigningUnavailableError`.
        """
        self.policies: Final = policies
        self._clients: Final = clients
        self._require_registered: Final = require_registered
        self._signs_with: Final = signs_with

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

        Raises `ClientDisabledError`, `ClientNotFoundError`, `PolicyViolationError` and `SigningUnavailableError`.
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
            if is_fapi(client):
                self._require_fapi(client)

    def require_binding(self, client_id: str, policy: Policy, confirmation: Confirmation) -> None:
        """Raise `BindingRequiredError` unless tokens are bound to a key of the kind that the client must use.

        `policy` is that of the client.
        """
        if not policy.binding_required:
            return
        client = self._clients.get(client_id)
        if client is not None and client.dpop_bound_access_tokens and not confirmation.jkt:
            raise BindingRequiredError(
                "the client is registered with dpop_bound_access_tokens, so its tokens must be bound to a DPoP key"
            )
        if (
            client is not None
            and client.tls_client_certificate_bound_access_tokens
            and not confirmation.x5t_s256
        ):
            raise BindingRequiredError(
                "the client is registered with tls_client_certificate_bound_access_tokens, so its tokens must be bound "
                "to its client certificate"
            )
        if not confirmation:
            raise BindingRequiredError

    def _require_fapi(self, client: Client) -> None:
        """Raise `PolicyViolationError` for a client that was registered before its profile, or a wrong signing key."""
        if client.token_endpoint_auth_method not in FAPI_METHODS:
            raise PolicyViolationError(
                f"the client is registered with {client.token_endpoint_auth_method}; the security profile fapi2 allows "
                f"{' and '.join(FAPI_METHODS)}",
                metadata={"field": "token_endpoint_auth_method"},
            )
        algorithm = self._signs_with()
        if algorithm not in FAPI_ALGORITHMS:
            raise PolicyViolationError(
                f"tokens are signed with {algorithm.value} at present; the security profile fapi2 allows "
                f"{', '.join(FAPI_ALGORITHMS)}",
                metadata={"field": "security_profile"},
            )

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
