"""The client store in memory, for tests. It shares the state of the other stores in memory."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from msgspec import structs

from token_service.core.clients.client import Client, ClientSecret, ClientState
from token_service.core.clients.store import ClientPosition, StoredClients
from token_service.core.events.event import AuditEvent

if TYPE_CHECKING:
    from tests.support.memory_stores import State
    from token_service.core.revocation.log import RevocationDraft


def micro(seconds: float) -> float:
    """The time as a database keeps it."""
    return round(seconds * 1_000_000) / 1_000_000


class MemoryClientStore:
    """Implements `core.clients.store.ClientStore`."""

    def __init__(self, state: State) -> None:
        self._state: Final = state

    async def create(self, client: Client, events: Sequence[AuditEvent] = ()) -> Client | None:
        """See `ClientStore.create`."""
        if client.client_id in self._state.clients:
            return None
        self._state.audit.add(events)
        return self._put(client, {})

    async def save(self, client: Client, events: Sequence[AuditEvent] = ()) -> Client | None:
        """See `ClientStore.save`."""
        known = self._state.clients.get(client.client_id)
        if known is None or known.revision != client.revision or known.state is ClientState.DELETED:
            return None
        self._state.audit.add(events)
        return self._put(client, {secret.secret_id: secret for secret in known.secrets})

    async def note_use(self, client_id: str, secret_id: str, time: float) -> None:
        """See `ClientStore.note_use`."""
        client = self._state.clients[client_id]
        secrets = tuple(
            structs.replace(secret, last_use_time=max(micro(time), secret.last_use_time or 0.0))
            if secret.secret_id == secret_id
            else secret
            for secret in client.secrets
        )
        self._state.clients[client_id] = structs.replace(client, secrets=secrets)

    async def get(self, client_id: str) -> Client | None:
        """See `ClientStore.get`."""
        return self._state.clients.get(client_id)

    async def list(self, limit: int, after: ClientPosition | None) -> Sequence[Client]:
        """See `ClientStore.list`."""
        found = [
            client
            for client in self._state.clients.values()
            if client.state is not ClientState.DELETED
            and (
                after is None
                or (client.create_time, client.client_id) < (micro(after.create_time), after.client_id)
            )
        ]
        found.sort(key=lambda client: (client.create_time, client.client_id), reverse=True)
        return found[:limit]

    async def load(self, after: int = -1) -> StoredClients:
        """See `ClientStore.load`."""
        found = [client for client in self._state.clients.values() if client.revision > after]
        return StoredClients(
            self._state.head.client_revision, sorted(found, key=lambda client: client.revision)
        )

    def _put(self, client: Client, known: dict[str, ClientSecret]) -> Client:
        state = self._state
        revision = state.head.client_revision + 1
        state.head = replace(state.head, client_revision=revision)
        secrets = [
            structs.replace(
                known.get(secret.secret_id, secret),
                expire_time=None if secret.expire_time is None else micro(secret.expire_time),
            )
            for secret in client.secrets
        ]
        saved = structs.replace(
            client,
            revision=revision,
            secrets=tuple(sorted(secrets, key=lambda secret: (secret.create_time, secret.secret_id))),
            create_time=micro(client.create_time),
            update_time=micro(client.update_time),
        )
        state.clients[client.client_id] = saved
        return saved


def end_client(state: State, draft: RevocationDraft) -> bool:
    """Disable or delete the client of a draft; return whether the draft applies."""
    end, client = draft.client_end, state.clients.get(draft.value)
    if end is None:
        return True
    if (
        client is None
        or client.state in {end.state, ClientState.DELETED}
        or end.revision not in {None, client.revision}
    ):
        return False
    revision = state.head.client_revision + 1
    state.head = replace(state.head, client_revision=revision)
    changes = {"state": end.state, "revision": revision, "update_time": micro(draft.revoke_time)}
    if end.state is ClientState.DELETED:
        client = Client(client_id=client.client_id, create_time=client.create_time, update_time=0.0)
    state.clients[draft.value] = structs.replace(client, **changes)
    return True


class KnownClients(dict[str, Client]):
    """Clients by id. Implements `core.clients.lookup.Clients`."""

    def classification(self, client_id: str) -> str | None:
        """See `Clients.classification`."""
        client = self.get(client_id)
        return (client.classification or None) if client is not None else None

    async def resolve(self, client_id: str, asker: Hashable) -> Client | None:
        """See `Clients.resolve`."""
        return self.get(client_id)
