"""The differences between two policy files, for the log."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from token_service.config.policy_file import PolicyDocument
from token_service.core.policies.overrides import differences
from token_service.core.policies.policy import PolicyBook

_MOST: Final = 50


def policy_changes(before: PolicyDocument, after: PolicyDocument, old: PolicyBook, new: PolicyBook) -> str:
    """Return the differences between two documents and the books in force with them; empty if there are none.

    Settings have their values before and after. Callers, clients and issuers have names only.
    """
    found = [
        f"{each.path} {each.before or 'none'} -> {each.after or 'none'}" for each in differences(old, new)
    ]
    if old.default != new.default:
        found.append(f"default {old.default} -> {new.default}")
    found += [
        f"automatic_revocation.{name} {mine} -> {theirs}"
        for name in ("interval", "sessions_per_minute", "dry_run")
        if (mine := getattr(before.automatic_rules, name)) != (theirs := getattr(after.automatic_rules, name))
    ]
    for name, mine, theirs in (
        ("clients", old.classifications, new.classifications),
        ("audiences", old.audiences, new.audiences),
        ("callers", before.callers, after.callers),
        ("operators", before.operators, after.operators),
        ("workload_issuers", before.workload_issuers, after.workload_issuers),
        ("trusted_issuers", before.trusted_issuers, after.trusted_issuers),
        ("upstreams", before.upstreams, after.upstreams),
        (
            "automatic_revocation.classifications",
            before.automatic_rules.limits,
            after.automatic_rules.limits,
        ),
        (
            "automatic_revocation.thresholds",
            before.automatic_rules.thresholds,
            after.automatic_rules.thresholds,
        ),
        (
            "security_event_transmitters",
            before.security_event_transmitters,
            after.security_event_transmitters,
        ),
    ):
        found += _names(name, mine, theirs)
    if before.risk != after.risk:
        found.append("risk changed")
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return ", ".join(found[:_MOST] + more)


def _names(table: str, before: Mapping[str, Any], after: Mapping[str, Any]) -> Sequence[str]:
    return [
        f"{table}.{name} {'changed' if name in before and name in after else 'added' if name in after else 'removed'}"
        for name in sorted({**before, **after})
        if name not in before or name not in after or before[name] != after[name]
    ]
