"""Thresholds: a session, subject or client is revoked when enough events of it happen within a window.

Nothing is counted in memory or in a table: the events are counted in the audit trail when one arrives. So a count survives a
restart, is the same on every node, and takes no memory.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import msgspec
from msgspec import structs

from token_service.clock import Clock
from token_service.core.administration.automatic.enforcer import ACTOR, AppendCounted, Listener
from token_service.core.administration.automatic.rules import AutomaticRules, Cause, Scope, Threshold
from token_service.core.clients.client import ClientState
from token_service.core.clients.store import ClientEnd
from token_service.core.events.audit import Audit
from token_service.core.events.chain import AuditRow
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.events.log import StoredEvent
from token_service.core.events.store import AuditFilter, AuditStore
from token_service.core.revocation.drafts import draft_of, event_of
from token_service.core.revocation.log import RevocationDraft
from token_service.durations import duration_text
from token_service.tokens.revocation import RevocationReason, RevocationTarget

_SKEW: Final = 5.0
"""Seconds by which the time of an event may be later than that of an event after it in the log: clocks differ."""
_ACTS: Final = 20
"""Revocations of a target among which the last one by a rule is looked for."""
_COLUMNS: Final = {Scope.SESSION: "session_id", Scope.SUBJECT: "subject", Scope.CLIENT: "client_id"}
"""The fields of events, and of filters, by scope."""
_TARGETS: Final = {
    Scope.SESSION: RevocationTarget.SESSION,
    Scope.SUBJECT: RevocationTarget.SUBJECT,
    Scope.CLIENT: RevocationTarget.CLIENT,
}
_fields: Final = msgspec.json.Decoder(dict[str, Any]).decode

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reached:
    """A count that was reached."""

    row: AuditRow
    """The event that reached it."""
    measured: int
    """The events within the window."""


class ThresholdHandler:
    """Handles events of the log. A batch that is handled again revokes nothing again."""

    def __init__(
        self,
        rules: Callable[[], AutomaticRules],
        store: AuditStore,
        append: AppendCounted,
        audit: Audit,
        clock: Clock,
    ) -> None:
        """`rules` returns the rules in force."""
        self._rules = rules
        self._store = store
        self._append = append
        self._audit = audit
        self._clock = clock
        self._listeners: list[Listener] = []

    def on_revoked(self, listener: Listener) -> None:
        """Call `listener` after each revocation."""
        self._listeners.append(listener)

    async def handle(self, events: Sequence[StoredEvent]) -> None:
        """See `core.events.consumer.Handle`."""
        for rule in self._rules().thresholds.values():
            found: defaultdict[str, list[AuditRow]] = defaultdict(list)
            for event in events:
                row = event.row
                if row is not None and _counts(rule, row) and (key := key_of(rule.per, row)):
                    found[key].append(row)
            for key, rows in found.items():
                reached = await self._reached(rule, key, rows)
                if reached is not None:
                    await self._act(rule, key, reached)

    async def _reached(self, rule: Threshold, key: str, arrived: Sequence[AuditRow]) -> Reached | None:
        """Return the last event that reaches the count, among those that arrived or happened at the same time."""
        newest = max(row.time for row in arrived) / 1_000_000
        oldest = min(row.time for row in arrived) / 1_000_000
        where = _filter(rule, key, since=oldest - rule.window, until=newest + min(_SKEW, float(rule.window)))
        rows = await self._store.list(where, limit=2 * rule.count + len(arrived), after=None)
        counted = sorted((row for row in rows if _counts(rule, row)), key=_place)
        target = key_of(rule.revoke, arrived[-1])
        after = await self._last_act(rule, target) if target else -1
        counted = [row for row in counted if row.time > after]
        for last in range(len(counted) - 1, rule.count - 2, -1):
            row, first = counted[last], counted[last - rule.count + 1]
            if row.time / 1_000_000 < oldest:
                return None
            if row.time - first.time <= rule.window * 1_000_000:
                begin = row.time - rule.window * 1_000_000
                return Reached(row, sum(begin <= each.time <= row.time for each in counted))
        return None

    async def _last_act(self, rule: Threshold, target: str) -> int:
        """Return the time, in microseconds, of the event for which a rule revoked a target last; -1: it never did."""
        actions = (Action.REVOKED.value, Action.CLIENT_DISABLED.value)
        where = AuditFilter(actor=ACTOR.name, actions=actions)
        if rule.revoke is Scope.SESSION:
            where = replace(where, session_id=target)
        elif rule.revoke is Scope.SUBJECT:
            where = replace(where, target_kind="subject", subject=target)
        else:
            where = replace(where, target_id=target)
        for row in await self._store.list(where, limit=_ACTS, after=None):
            fields = _fields(row.fields)
            if fields.get("rule") == _rule_name(rule) and isinstance(fields.get("event_time"), int):
                return int(fields["event_time"])
        return -1

    async def _act(self, rule: Threshold, key: str, reached: Reached) -> None:
        row = reached.row
        target = key_of(rule.revoke, row)
        if not target:
            logger.warning(
                "the threshold %s is reached, but its event %s names no %s: nothing is revoked",
                rule.name,
                f"{row.chain_id}:{row.position}",
                rule.revoke.value,
            )
            return
        if rule.dry_run:
            logger.info(
                "the threshold %s is a dry run; it would revoke a %s: %d events within %s",
                rule.name,
                rule.revoke.value,
                reached.measured,
                duration_text(rule.window),
            )
            return
        draft = _draft(rule, target, reached, self._clock.now())
        cursor, count = await self._append([draft])
        if not count:
            return  # the session or the client has ended already
        assert draft.event is not None
        self._audit.record(structs.replace(draft.event, fields={**draft.event.fields, "cursor": str(cursor)}))
        for listener in self._listeners:
            listener(Cause.THRESHOLD, count)


def key_of(scope: Scope, row: AuditRow) -> str:
    """Return the session, the subject or the client of an event; empty: it names none, or its subject was erased."""
    key: str = getattr(row, _COLUMNS[scope])
    return key


def _draft(rule: Threshold, target: str, reached: Reached, now: float) -> RevocationDraft:
    row = reached.row
    draft = draft_of(
        _TARGETS[rule.revoke],
        target,
        now,
        reason=RevocationReason.CLIENT_DISABLED
        if rule.revoke is Scope.CLIENT
        else RevocationReason.ADMINISTRATIVE,
        comment=f"automatic: threshold {rule.name}: {reached.measured} events within {duration_text(rule.window)}",
    )
    event = event_of(draft, ACTOR)
    if rule.revoke is Scope.CLIENT:
        draft = replace(draft, client_end=ClientEnd(ClientState.DISABLED))
        event = AuditEvent(
            action=Action.CLIENT_DISABLED,
            actor=ACTOR,
            target=Target("client", target, client_id=target),
            comment=draft.comment,
        )
    fields = {
        "cause": Cause.THRESHOLD.value,
        "rule": _rule_name(rule),
        "limit": rule.count,
        "window": rule.window,
        "measured": reached.measured,
        "event_id": f"{row.chain_id}:{row.position}",
        "event_time": row.time,
    }
    return replace(draft, event=structs.replace(event, fields=fields))


def _filter(rule: Threshold, key: str, *, since: float, until: float) -> AuditFilter:
    where = AuditFilter(actions=tuple(sorted(rule.actions)), since=since, until=until)
    return replace(where, **{_COLUMNS[rule.per]: key})  # type: ignore[arg-type]  # all three are texts


def _counts(rule: Threshold, row: AuditRow) -> bool:
    """Tell whether a rule counts an event. It does not count what automatic revocation did."""
    own = (row.actor_kind, row.actor_name) == (ACTOR.kind, ACTOR.name)
    return row.action in rule.actions and not own


def _rule_name(rule: Threshold) -> str:
    return f"thresholds.{rule.name}"


def _place(row: AuditRow) -> tuple[int, str, int]:
    return row.time, row.chain_id, row.position
