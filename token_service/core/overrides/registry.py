"""The overrides of the policies in memory: this node's copy, which it puts in force.

All nodes share the policy store. The copy is loaded again whenever the revision in the log head differs from its own.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from token_service.core.overrides.store import PolicyStore, StoredOverrides
from token_service.core.policies.overrides import differences
from token_service.core.policies.policies import Policies
from token_service.errors import ConfigurationError

logger = logging.getLogger(__name__)


class OverrideRegistry:
    """This node's copy of the overrides."""

    def __init__(self, store: PolicyStore, policies: Policies) -> None:
        """`policies`: the policies that the overrides are put in force in."""
        self._store = store
        self._policies = policies
        self._loading = asyncio.Lock()
        self._listeners: list[Callable[[], None]] = []
        self._stored = StoredOverrides(revision=-1)
        self.problem = ""
        """Why the newest overrides are not in force. Empty: they are."""

    @property
    def revision(self) -> int:
        """The revision of the copy; -1 before the first load."""
        return self._stored.revision

    @property
    def stored(self) -> StoredOverrides:
        """The newest known overrides, even those that are not in force."""
        return self._stored

    def on_change(self, listener: Callable[[], None]) -> None:
        """Call `listener` after each change of the overrides."""
        self._listeners.append(listener)

    def require_in_force(self) -> None:
        """Raise `ConfigurationError` if the newest overrides are not in force."""
        if self.problem:
            raise ConfigurationError(
                f"{self.problem}\nCorrect the policy file, or reset the overrides at another node "
                "(`token-service policies reset`)"
            )

    async def refresh(self, *, revision: int | None = None) -> None:
        """Load the overrides, unless the copy has `revision`. Raises `StoreUnavailableError`.

        Overrides that contradict the policy file are logged, and the last valid policies stay in force.
        """
        # A lower revision is from a head that was read before this node's own change, or from a restored database.
        if revision is not None and revision == self.revision:
            return
        async with self._loading:
            if revision is None or revision != self.revision:
                self._adopt(await self._store.load())

    def file_changed(self) -> None:
        """Note that the policies in force are those of a file that the newest overrides do not contradict."""
        self.problem = ""

    def _adopt(self, stored: StoredOverrides) -> None:
        before, self._stored = self._stored, stored
        if stored.values == before.values:
            return
        old = self._policies.book
        try:
            self._policies.replace_overrides(stored.values)
        except ConfigurationError as error:
            self.problem = error.message
            logger.error(  # noqa: TRY400 - the message says all
                "the policies in force stay unchanged: %s", error.message
            )
            return
        self.problem = ""
        if before.revision >= 0:
            changes = ", ".join(
                f"{each.path} {each.before} -> {each.after}" for each in differences(old, self._policies.book)
            )
            logger.info(
                "the overrides of the policies have revision %d: %s", stored.revision, changes or "no effect"
            )
        for listener in self._listeners:
            listener()
