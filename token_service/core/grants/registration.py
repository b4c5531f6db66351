"""The terms of a client at the token endpoint: its grant types, and the scopes and audiences of its tokens.

IssueToken is called by services with rights of their own, so an empty list of a client means "any" there. At the token
endpoint the client asks for itself, so it gets only what it is registered for.
"""

from __future__ import annotations

from collections.abc import Sequence

from token_service.core.access.caller import Caller
from token_service.core.access.gate import admit_grant
from token_service.core.clients.admission import ClientAdmission
from token_service.core.clients.client import Client
from token_service.errors import PolicyViolationError


class Registration:
    """Admits clients to grants and completes their requests."""

    def __init__(self, clients: ClientAdmission, issuer: str) -> None:
        """`issuer`: the audience of a token if neither the request nor the policy names another one."""
        self._clients = clients
        self._issuer = issuer

    def admit(self, caller: Caller, grant_type: str) -> Client:
        """Return the client that the caller is.

        Raises `CallerUnauthenticatedError`, `GrantTypeNotAllowedError`.
        """
        return admit_grant(caller, self._clients.get(caller.client_id), grant_type)

    def scopes(self, client: Client, asked: Sequence[str]) -> tuple[str, ...]:
        """Return the scopes of a token: the requested ones, or all scopes of the client (RFC 6749, section 3.3).

        Raises `PolicyViolationError` for a scope that the client is not registered for.
        """
        self.require_scopes(client, asked)
        return tuple(dict.fromkeys(asked)) or client.scopes

    def require_scopes(self, client: Client, asked: Sequence[str]) -> None:
        """Raise `PolicyViolationError` for a scope that the client is not registered for."""
        for scope in asked:
            if scope not in client.scopes:
                raise _outside("scopes", scope)

    def audience(self, client: Client, asked: Sequence[str]) -> tuple[str, ...]:
        """Return the audience of a token: the requested one, else the default of the policy.

        Without such a default it is the one audience of the client, or the issuer if the client is registered for none.
        Raises `PolicyViolationError` for an audience that the client is not registered for, and if it must name one.
        """
        default = self._clients.policies.of(client.client_id).default_audience
        allowed = client.audiences or default or (self._issuer,)
        for value in asked:
            if value not in allowed:
                raise _outside("audience", value)
        if asked:
            return tuple(dict.fromkeys(asked))
        if default and all(value in allowed for value in default):
            return default
        if len(allowed) == 1:
            return allowed
        raise PolicyViolationError(
            "audience: the client is registered for several; name one with the parameter resource",
            metadata={"field": "audience"},
        )


def _outside(field: str, value: str) -> PolicyViolationError:
    return PolicyViolationError(
        f"{field}: the client is not registered for {value!r}", metadata={"field": field}
    )
