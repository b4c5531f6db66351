"""Plans the deliveries of logouts from the revocation log.

The log has every revocation in the order of its commits, without gaps, so a cursor is sufficient: an entry is planned in the
transaction that moves the cursor past it, whenever the node that appended it, or the one that plans, is killed.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final
from uuid import UUID

from token_service.clock import Clock
from token_service.core.logout.clients import LogoutClients
from token_service.core.logout.store import EndedSession, LogoutStore
from token_service.core.revocation.log import RevocationLog
from token_service.core.revocation.replica import Replica
from token_service.core.sessions.store import SessionFilter
from token_service.tokens.revocation import Revocation, RevocationTarget

MAX_SESSIONS_TOLD: Final = 1000
"""Sessions of a subject, or of each client, that are told of a revocation of the subject, the client or everything."""
_BATCH: Final = 256
"""Entries of the log that are planned at once."""
_LAG: Final = 1000
"""Entries without deliveries after which the cursor is written."""

logger = logging.getLogger(__name__)


class LogoutPlanner:
    """Reads the log and plans deliveries. Call `reset` when another node may have planned meanwhile."""

    def __init__(
        self, store: LogoutStore, log: RevocationLog, replica: Replica, clients: LogoutClients, clock: Clock
    ) -> None:
        self._store = store
        self._log = log
        self._replica = replica
        self._clients = clients
        self._clock = clock
        self._place: tuple[str, int, int] | None = None
        """The epoch of the log, the cursor as stored, and the last entry that was read."""

    def reset(self) -> None:
        """Read the cursor again before the next plan."""
        self._place = None

    async def plan(self) -> bool:
        """Plan the next entries of the log; return whether there may be more.

        Raises `StoreUnavailableError`.
        """
        epoch = self._replica.epoch
        if self._place is None or self._place[0] != epoch:
            cursor = await self._store.cursor()
            self._place = epoch, cursor, cursor
        _, stored, seen = self._place
        entries = await self._log.read(seen, _BATCH)
        if not entries:
            return False
        told = await self._told(entries)
        through = entries[-1].sequence
        if told or through - stored >= _LAG:
            if not await self._write(told, stored, through):
                self.reset()
                return True
            stored = through
        self._place = epoch, stored, through
        return len(entries) == _BATCH

    async def _write(self, told: Sequence[EndedSession], after: int, through: int) -> bool:
        """Write deliveries in transactions of a bounded size; the last one moves the cursor."""
        now = self._clock.now()
        chunks = [
            told[start : start + MAX_SESSIONS_TOLD] for start in range(0, len(told), MAX_SESSIONS_TOLD)
        ] or [()]
        for chunk in chunks[:-1]:
            if not await self._store.plan(chunk, after, after, now):
                return False
        return await self._store.plan(chunks[-1], after, through, now)

    async def _told(self, entries: Sequence[Revocation]) -> Sequence[EndedSession]:
        """Return the sessions that entries have ended and whose clients are to be told, each once."""
        ids = _session_ids(entries)
        ended = list(await self._store.sessions(ids)) if ids else []
        for entry in entries:
            if entry.target is RevocationTarget.SUBJECT:
                ended += await self._wide(SessionFilter.SUBJECT, entry.value, entry)
            elif entry.target is RevocationTarget.CLIENT:
                if self._clients.uri(entry.value):
                    ended += await self._wide(SessionFilter.CLIENT, entry.value, entry)
            elif entry.target is RevocationTarget.EVERYTHING:
                for client_id in self._clients.ids():
                    ended += await self._wide(SessionFilter.CLIENT, client_id, entry)
        found = {each.session_id: each for each in ended if self._clients.uri(each.client_id)}
        return list(found.values())

    async def _wide(self, by: SessionFilter, value: str, entry: Revocation) -> Sequence[EndedSession]:
        found = await self._store.sessions_ended_by(by, value, entry, MAX_SESSIONS_TOLD + 1)
        if len(found) > MAX_SESSIONS_TOLD:
            logger.warning(
                "revocation %d ended more than %d sessions of one %s; only the newest are told by back-channel logout",
                entry.sequence,
                MAX_SESSIONS_TOLD,
                "subject" if by is SessionFilter.SUBJECT else "client",
            )
        return found[:MAX_SESSIONS_TOLD]


def _session_ids(entries: Sequence[Revocation]) -> list[UUID]:
    """Return the ids of the sessions that entries revoke. An entry that names none must not stop those behind it."""
    ids = []
    for entry in entries:
        if entry.target is not RevocationTarget.SESSION:
            continue
        if (session_id := _parsed(entry.value)) is None:
            logger.error("revocation %d names no session, so no client is told of it", entry.sequence)
        else:
            ids.append(session_id)
    return ids


def _parsed(value: str) -> UUID | None:
    try:
        return UUID(value)
    except ValueError:
        return None
