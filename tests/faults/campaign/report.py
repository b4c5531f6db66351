"""The faults, counts and findings of a campaign, as `docs/reliability.md`."""

from __future__ import annotations

from collections.abc import Sequence

from tests.faults.campaign.checks.processes import MEMORY_LIMIT, RECOVERY_LIMIT
from tests.faults.campaign.conductor import Outcome

_HEAD = """\
# Reliability

`scripts/faults campaign --write-report` writes this file. A campaign runs two nodes, PostgreSQL with a synchronous
standby, Redis, validators, readers of the revocation stream and a load of every call, and breaks them by a seed. Half
of the validators are asynchronous, half use threads; of each, half reject while not fresh, half ask the service. A
judge then checks the recorded history against these promises:

- A token whose revocation was acknowledged at *t* is not accepted as fresh after *t* + *S*. A validation counts as of
  a time taken before it began.
- `CONSISTENCY_STRONG` sees every revocation that was acknowledged before the call. No token is accepted after its
  expiry, and none is refused as revoked without a revocation.
- No acknowledged session, rotation or revocation is lost. One refresh token never has two live successors. A refresh
  whose answer was lost succeeds when it is retried in the grace period.
- Cursors neither skip nor go back within an epoch.
- No call is answered INTERNAL, no log contains a traceback, no process ends by itself, memory is bounded, and every
  process is ready and fresh again after the faults.

`scripts/faults campaign --self-test` runs with known defects in the processes, one at a time, and shows that the judge
finds each of them.
"""


def render(outcomes: Sequence[Outcome]) -> str:
    """Return the whole file."""
    return "\n".join([_HEAD, *(_section(outcome) for outcome in outcomes)])


def _section(outcome: Outcome) -> str:
    options, judge = outcome.options, outcome.judge
    counts = judge.surroundings.count()
    memory = judge.processes.memory
    kinds = judge.kinds
    judged = [
        ("acceptances by validators", judge.freshness.accepted),
        ("refusals by validators", judge.freshness.refused),
        ("validations without an answer for lack of freshness", judge.freshness.stale),
        ("ValidateToken answers of nodes", judge.freshness.answers),
        ("sessions begun", kinds["begun"]),
        ("refreshes answered", judge.refreshes.count),
        ("sessions extended", kinds["extended"]),
        ("revocations acknowledged", kinds["revoked"]),
        ("signing keys replaced", kinds["key_rotated"]),
        ("messages of streams without the client library", judge.cursors.messages),
        ("sessions audited at the end", kinds["audited"]),
    ]
    lines = [
        f"## {outcome.title}: {outcome.seconds / 60:.1f} minutes, seed {options.seed}",
        "",
        f"S is {options.bound} s.",
        "",
        "| judged | count |",
        "| --- | ---: |",
        *(f"| {name} | {count:,} |" for name, count in judged),
        "",
        f"| fault ({sum(counts.values())} in all) | count |",
        "| --- | ---: |",
        *(f"| {kind} | {count} |" for kind, count in counts.items()),
        "",
        f"Slowest return to ready and fresh after the faults of a round: {judge.processes.slowest:.1f} s (limit "
        f"{RECOVERY_LIMIT:.0f} s). Most resident memory: "
        + ", ".join(f"{name} {memory[name]:.0f} MB" for name in sorted(memory))
        + f" (limit {MEMORY_LIMIT:.0f} MB).",
        "",
        *(f"{note}\n" for note in outcome.notes),
    ]
    if not outcome.findings:
        return "\n".join([*lines, "**Findings: none.**", ""])
    lines += [f"**Findings: {len(outcome.findings)}.**", ""]
    return "\n".join([*lines, *(f"```text\n{finding}\n```\n" for finding in outcome.findings[:20])])
