"""Explains whether a caller may make a call, from the rights of a policy file and of registered clients."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from token_service.core.access.authenticator import rights_in_force
from token_service.core.access.caller import Caller
from token_service.core.access.gate import NEEDED, UseCase, admit, admit_client, admit_issue
from token_service.core.access.names import matches
from token_service.core.access.rights import Rights
from token_service.core.clients.client import Client, ClientState
from token_service.core.policies.rights import May, Permission, Right
from token_service.errors import PermissionDeniedError
from token_service.tokens.claims import TokenKind

_OF_CLIENTS = frozenset(
    {UseCase.REFRESH_TOKEN, UseCase.EXTEND_SESSION, UseCase.UPDATE_SESSION, UseCase.REVOKE_TOKEN}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class AskedCall:
    """A call to explain. An empty field is not part of the question, except for IssueToken."""

    use_case: UseCase
    client_id: str = ""
    subject: str = ""
    audience: Sequence[str] = ()
    scopes: Sequence[str] = ()
    token_types: Sequence[TokenKind] = ()
    uses: frozenset[May] = field(default_factory=frozenset)


@dataclass(frozen=True, slots=True)
class Explanation:
    """The answer, and what it comes from."""

    allowed: bool
    why: str
    permission: Permission | None
    entries: Sequence[str]
    """The entries of the policy file that match a name of the caller, and `client:` with the id of each of its clients."""
    rights: Sequence[Right]
    """The rights of these entries with the needed permission."""


def explain(
    callers: Mapping[str, Rights], names: Iterable[str], call: AskedCall, clients: Sequence[Client] = ()
) -> Explanation:
    """Explain whether a caller with these names, who is also these registered clients, may make a call."""
    proved = list(names)
    found = [rights for name in proved for rights in matches(callers, name)]
    entries = [entry for entry, rights in callers.items() if any(rights is each for each in found)]
    entries += [f"client:{client.client_id}" for client in clients]
    found += [rights_in_force(client) for client in clients]
    needed = NEEDED[call.use_case]
    caller = Caller(
        ", ".join(proved),
        Rights(right for rights in found for right in rights),
        client_id=clients[0].client_id if clients else "",
    )
    rights = [right for right in caller.rights if right.permission is needed]
    if needed is None:
        return Explanation(True, "the call needs no permission", None, entries, ())
    if not entries:
        return Explanation(
            False, "no entry in [callers] and no registered client matches the caller", needed, (), ()
        )
    ended = [client.client_id for client in clients if client.state is not ClientState.ACTIVE]
    try:
        _try(caller, call)
    except PermissionDeniedError as error:
        why = error.message
        if ended:
            why += f"; client {', '.join(ended)} is not active and has no rights"
        return Explanation(False, why, needed, entries, rights)
    return Explanation(True, f"the caller has the permission {needed.value}", needed, entries, rights)


def _try(caller: Caller, call: AskedCall) -> None:
    admit(caller, call.use_case)
    if call.use_case is UseCase.ISSUE_TOKEN:
        admit_issue(
            caller,
            subject=call.subject,
            client_id=call.client_id,
            audience=call.audience,
            scopes=call.scopes,
            kinds=call.token_types,
            uses=call.uses,
        )
    elif call.use_case in _OF_CLIENTS and call.client_id:
        admit_client(caller, call.use_case, call.client_id)
