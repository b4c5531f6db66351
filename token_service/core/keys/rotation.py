"""The key schedule: makes the first keys; prepares, activates, retires and deletes keys when due.

`lifecycle.next_step` decides which step is due, and `announcement` may delay an activation. This module carries the
steps out.

One node runs it, under a lease. A change is one compare-and-set of the key table, so a second leader does no
harm: its step fails and is decided again.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Final

from token_service.clock import Clock
from token_service.core.events.event import Action, Actor, AuditEvent, Target
from token_service.core.keys.announcement import Announcement
from token_service.core.keys.keyring import require_keys
from token_service.core.keys.lifecycle import (
    Activate,
    Prepare,
    Retire,
    RotationRules,
    Step,
    activated,
    can_sign,
    is_due,
    next_step,
    retired,
)
from token_service.core.keys.making import KeyMaker
from token_service.core.keys.store import SigningKeyState, StoredKeys
from token_service.core.keys.table import MAX_ATTEMPTS, KeyTable, find, key_event, too_many_changes
from token_service.core.leases import Lease
from token_service.errors import ConfigurationError, TokenServiceError

_LEASE_INTERVALS: Final = 3
"""Intervals without a lease renewal after which another node becomes the leader."""
_SHORTEST_LEASE: Final = 1.0
_SHORTEST_MAC_PERIOD: Final = 24 * 3600.0
"""Seconds. Old MAC keys are kept as long as a session may live, and a version has 16 bits."""

_ACTOR: Final = Actor.system("key-rotation")

logger = logging.getLogger(__name__)


class KeyRotation:
    """Applies the schedule to the key table."""

    def __init__(
        self,
        table: KeyTable,
        maker: KeyMaker,
        announcement: Announcement,
        lease: Lease,
        clock: Clock,
        rules: RotationRules,
        *,
        interval: float,
    ) -> None:
        """`interval`: seconds between two looks at the keys."""
        self._table = table
        self._maker = maker
        self._announcement = announcement
        self._lease = lease
        self._clock = clock
        self._rules = rules
        self._interval = interval
        self.ran_at: float | None = None
        """The time at which this node last took all due steps, in seconds since the Unix epoch; None: never."""
        self._listeners: list[Callable[[str], None]] = []

    def on_step(self, listener: Callable[[str], None]) -> None:
        """Call `listener` with the outcome of each step: `prepared`, `activated`, `retired`, `forgotten`, `mac_prepared`,
        `conflict` if another node changed the keys first, or `failed`.
        """
        self._listeners.append(listener)

    async def ensure(self) -> None:
        """Make the first keys of a new database, and load them.

        Of any number of nodes that start concurrently, one makes the keys.

        Raises `ConfigurationError` if the key table is damaged: new keys would hide the loss of the old ones.
        """
        for _ in range(MAX_ATTEMPTS):
            stored = await self._table.load()
            if stored.signing_keys and stored.mac_keys:
                self._table.keyring.adopt(stored)
                if not can_sign(stored.signing_keys):
                    await self.advance()
                return
            if stored.signing_keys or stored.mac_keys or stored.revision > 0:
                require_keys(stored)
            now = self._clock.now()
            first = replace(
                await self._maker.signing_key(self._rules.algorithm, now),
                state=SigningKeyState.ACTIVE,
                activate_time=now,
            )
            mac_keys = [self._maker.mac_key(version, now) for version in (1, 2)]
            event = key_event(_ACTOR, Action.SIGNING_KEY_ACTIVATED, first)
            if await self._table.save(stored, [first], mac_keys, events=[event]):
                return
            await self._maker.discard(first)
        raise too_many_changes()

    async def run(self) -> None:
        """Apply the schedule while this node has the lease, until cancelled.

        Every node watches the keys, so that any node can become the leader.
        """
        failing = ""
        try:
            while True:
                try:
                    await self._look_after()
                    failing = ""
                except TokenServiceError as error:
                    self._tell("failed")
                    # The keyring has logged its own failure already.
                    known = self._table.keyring.failure
                    if error.message != failing and (known is None or known.message != error.message):
                        logger.warning("the key schedule can't run, trying again: %s", error.message)
                    failing = error.message
                await asyncio.sleep(self._interval)
        finally:
            # Release the lease, so that other nodes need not wait until it expires.
            with suppress(TokenServiceError, TimeoutError):
                async with asyncio.timeout(1):
                    await self._lease.release()

    async def advance(self) -> None:
        """Take all steps that are due.

        Raises `ConfigurationError` if this node can't use the stored keys.
        """
        for _ in range(MAX_ATTEMPTS):
            stored = await self._table.adopt()
            now = self._clock.now()
            if self._rotation_of_mac_keys_is_due(stored, now):
                version = max(key.version for key in stored.mac_keys) + 1
                event = AuditEvent(
                    action=Action.MAC_KEY_PREPARED,
                    actor=_ACTOR,
                    target=Target("mac_key"),
                    fields={"version": version},
                )
                new = [self._maker.mac_key(version, now)]
                self._tell_saved(
                    "mac_prepared", saved=await self._table.save(stored, mac_keys=new, events=[event])
                )
                continue
            step = next_step(stored.signing_keys, now, self._rules, self._table.watch(stored))
            if step is None or not await self._may(step, stored):
                return
            await self._take(step, stored, now)

    async def _look_after(self) -> None:
        stored = await self._table.load()
        self._table.watch(stored)
        try:
            self._table.keyring.adopt(stored)
        except ConfigurationError:
            await self._lease.release()  # another node may be able to use them
            raise
        ttl = max(_SHORTEST_LEASE, _LEASE_INTERVALS * self._interval)
        if await self._lease.acquire(ttl):
            await self.advance()
            self.ran_at = self._clock.now()

    async def _may(self, step: Step, stored: StoredKeys) -> bool:
        return not isinstance(step, Activate) or await self._announcement.allows_scheduled(
            step.key_id, stored
        )

    async def _take(self, step: Step, stored: StoredKeys, now: float) -> None:
        if isinstance(step, Prepare):
            key = await self._maker.signing_key(step.algorithm, now)
            if step.activate:
                key = replace(key, state=SigningKeyState.ACTIVE, activate_time=now)
            action = Action.SIGNING_KEY_ACTIVATED if step.activate else Action.SIGNING_KEY_PREPARED
            saved = await self._table.save(stored, [key], events=[key_event(_ACTOR, action, key)])
            self._tell_saved("activated" if step.activate else "prepared", saved=saved)
            if not saved:
                await self._maker.discard(key)
        elif isinstance(step, Activate):
            changed = activated(stored.signing_keys, step.key_id, now)
            event = key_event(_ACTOR, Action.SIGNING_KEY_ACTIVATED, changed[0])
            self._tell_saved("activated", saved=await self._table.save(stored, changed, events=[event]))
        elif isinstance(step, Retire):
            key = retired(find(stored, step.key_id), now)
            event = key_event(_ACTOR, Action.SIGNING_KEY_RETIRED, key)
            self._tell_saved("retired", saved=await self._table.save(stored, [key], events=[event]))
        else:
            key = find(stored, step.key_id)
            event = key_event(_ACTOR, Action.SIGNING_KEY_FORGOTTEN, key)
            saved = await self._table.save(stored, deleted=[step.key_id], events=[event])
            self._tell_saved("forgotten", saved=saved)
            if saved:
                await self._maker.discard(key)

    def _tell_saved(self, outcome: str, *, saved: bool) -> None:
        self._tell(outcome if saved else "conflict")

    def _tell(self, outcome: str) -> None:
        for listener in self._listeners:
            listener(outcome)

    def _rotation_of_mac_keys_is_due(self, stored: StoredKeys, now: float) -> bool:
        spare = max(stored.mac_keys, key=lambda key: key.version)
        return is_due(spare.create_time, now, max(self._rules.period, _SHORTEST_MAC_PERIOD))
