"""Explanations of the rights of callers, from the policy file and the registry of a running node."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from token_service.core.access.caller import Caller
from token_service.core.access.explain import AskedCall, Explanation, explain
from token_service.core.access.gate import UseCase, admit
from token_service.core.access.rights import Rights
from token_service.core.clients.client import Client
from token_service.core.clients.registry import ClientRegistry
from token_service.core.limits import Checks

MAX_NAMES: Final = 16
MAX_NAME: Final = 2048


class AccessReports:
    """Explains whether a caller may make a call."""

    def __init__(self, callers: Callable[[], Mapping[str, Rights]], clients: ClientRegistry) -> None:
        """`callers` returns the rights of the callers of the policy file in force, by their names."""
        self._callers = callers
        self._clients = clients

    def explain(self, caller: Caller, names: Sequence[str], call: AskedCall) -> Explanation:
        """Explain whether a caller with these names may make a call.

        A name that is the id of a registered client, or that such a client has in its certificate, adds the rights of the
        client. Raises `PermissionDeniedError` and `InvalidRequestError`.
        """
        admit(caller, UseCase.EXPLAIN_ACCESS)
        checks = Checks()
        if not names:
            checks.add("names", "is required")
        checks.texts("names", names, MAX_NAMES, MAX_NAME)
        checks.done()
        return explain(self._callers(), names, call, self._clients_of(names))

    def _clients_of(self, names: Sequence[str]) -> Sequence[Client]:
        found = {client.client_id: client for name in names if (client := self._clients.get(name))}
        if certified := self._clients.of_certificate(names):
            found[certified.client_id] = certified
        return list(found.values())
