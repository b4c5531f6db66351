"""A node with rules about risk, and the origins of its users."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Final
from uuid import UUID

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import Intercepted, Node
from tests.unit.core.risk.scenes import ABROAD, CURL, FIREFOX, HOME, OFFICE, FixedLocator
from tests.unit.core.virtual_time import ManualClock
from token_service.core.events.event import Origin
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.risk.history import parse_history
from token_service.core.risk.rules import RiskRules
from token_service.core.risk.signals import NewNetwork, Signal
from token_service.core.risk.verdict import RiskAction
from token_service.tokens.claims import AuthContext

AT_HOME: Final = Origin(HOME, FIREFOX)
AT_THE_OFFICE: Final = Origin(OFFICE, FIREFOX)
ELSEWHERE: Final = Origin(ABROAD, CURL)


class RiskyNode(Node[ManualClock]):
    """A node whose rules demand one action as soon as a signal speaks."""

    def __init__(
        self,
        action: RiskAction = RiskAction.REFUSE,
        *signals: Signal,
        dry_run: bool = False,
        clock: ManualClock | None = None,
        **options: Any,
    ) -> None:
        clock = clock or ManualClock()
        stores = options.pop("stores", None) or MemoryStores(clock)
        self.calls = Intercepted(stores.sessions)
        super().__init__(clock, stores=stores, sessions=self.calls, max_staleness=1e12, **options)
        self.core.risk.replace_locator(FixedLocator())
        self.rules(action, *signals, dry_run=dry_run)

    def rules(self, action: RiskAction, *signals: Signal, dry_run: bool = False) -> None:
        """Replace the rules. Without signals a new network counts."""
        self.core.risk.replace(
            RiskRules(signals or (NewNetwork(),), {"default": {action: 1}}, dry_run=dry_run)
        )

    async def session_at(self, origin: Origin = AT_HOME, **command: Any) -> IssuedTokens:
        """Return the tokens of a session that was opened and renewed from one origin."""
        tokens = await self.issue(client_context=origin, **command)
        self.clock.elapsed += 600
        tokens = await self.refresh(
            tokens.refresh_token, client_context=origin, device_id=command.get("device_id", "")
        )
        self.clock.elapsed += 600
        self.audit.events.clear()
        return tokens

    def authenticate_again(self) -> None:
        """Let the subjects of all sessions be authenticated now, as a raise of their sessions does."""
        rows = self.stores.sessions._state.sessions
        for session in list(rows.values()):
            context = AuthContext("", (), int(self.clock.now()))
            rows[session.id] = replace(session, auth_context=context)

    async def origins(self, tokens: IssuedTokens) -> list[str]:
        """Return the addresses that a session keeps, the last one first."""
        details = await self.stores.sessions.describe(UUID(tokens.session_id))
        assert details is not None
        return [each.address for each in parse_history(details.origins).origins]
