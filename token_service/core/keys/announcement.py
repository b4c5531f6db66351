"""Announcement of a key before it signs: subscribers must have the key before its first token arrives."""

from __future__ import annotations

from math import ceil

from token_service.clock import Clock
from token_service.core.keys.lifecycle import RotationRules, announcement_left, can_sign
from token_service.core.keys.store import StoredKeys, StoredSigningKey
from token_service.core.keys.table import KeyTable
from token_service.core.subscribers.reports import KeyKnowledge, Reports
from token_service.errors import KeyNotAnnouncedError


class Announcement:
    """Judges by the confirmations of subscribers and by the time since a key was published."""

    def __init__(self, table: KeyTable, reports: Reports, clock: Clock, rules: RotationRules) -> None:
        self._table = table
        self._reports = reports
        self._clock = clock
        self._rules = rules

    async def revision_known_to_all(self) -> int | None:
        """Return the lowest key revision that a connected subscriber has confirmed; None without subscribers."""
        connected, revision = await self._reports.key_revision_of_all()
        return revision if connected else None

    async def knowledge(self, stored: StoredKeys) -> KeyKnowledge:
        """Return which connected subscribers have not confirmed the stored keys. Changes nothing."""
        return await self._reports.knowledge(stored.revision)

    def require(self, key: StoredSigningKey, stored: StoredKeys, known: int | None) -> None:
        """Raise `KeyNotAnnouncedError` unless all subscribers have confirmed a key or its announce time has passed.

        `known` is the result of `revision_known_to_all`.
        """
        if known is not None and known >= stored.revision:
            return
        left = announcement_left(key, self._clock.now(), self._rules, self._table.watch(stored))
        if left > 0:
            raise KeyNotAnnouncedError(
                f"key {key.key_id} is published for {self._rules.announce:g} s before it signs; {ceil(left)} s are left",
                retry_after=left,
            )

    async def allows_scheduled(self, key_id: str, stored: StoredKeys) -> bool:
        """Tell whether a scheduled activation may happen now.

        It waits for the confirmations of the connected subscribers, for one more announce time at most, unless
        no other key can sign.
        """
        if not can_sign(stored.signing_keys):
            return True
        if self._table.watch(stored).get(key_id, 0.0) >= 2 * self._rules.announce:
            return True
        known = await self.revision_known_to_all()
        return known is None or known >= stored.revision
