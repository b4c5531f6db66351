"""Policies in force, checks of candidates, and changes of the overrides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from msgspec import structs

from token_service.core.access.caller import Caller
from token_service.core.access.gate import UseCase, admit
from token_service.core.events.audit import Audit
from token_service.core.events.event import Action, AuditEvent, Target
from token_service.core.limits import MAX_CLIENT_ID, MAX_COMMENT, Checks
from token_service.core.overrides.registry import OverrideRegistry
from token_service.core.overrides.store import PolicyStore, StoredOverrides
from token_service.core.policies.overrides import (
    PolicyDifference,
    PolicyValue,
    canonical,
    differences,
    values_of,
)
from token_service.core.policies.policies import Policies
from token_service.core.policies.policy import SETTINGS, PolicyBook
from token_service.errors import (
    ConfigurationError,
    InvalidRequestError,
    OverloadedError,
    PoliciesChangedError,
    StoreUnavailableError,
)

MAX_CHANGES: Final = 256
"""Overrides in one call."""
MAX_PATH: Final = 512
MAX_VALUE: Final = 4096
MAX_TOTAL: Final = 32 * 1024
"""Bytes of all paths and values in one call: they are in its audit event, before and after."""
MAX_FILE: Final = 8 * 1024 * 1024
MAX_DIFFERENCES: Final = 1000
"""Differences that a check shows."""
MAX_CHECKS: Final = 4
"""Checks of policy files that may run or wait."""
_MAX_ATTEMPTS: Final = 10
"""Attempts of a change without a revision while other callers change the overrides."""

Changes: TypeAlias = Sequence[tuple[str, str]]
"""Paths and values in the notation of the policy file."""


@dataclass(frozen=True, slots=True)
class PoliciesInForce:
    """The policies in force, or those of one client."""

    values: Sequence[PolicyValue]
    classification: str
    """The classification of the client; empty without a client."""
    default_classification: str
    overrides: StoredOverrides
    problem: str
    """Why a newer policy file or override is not in force. Empty: the newest ones are."""


@dataclass(frozen=True, slots=True)
class PolicyCheck:
    """The outcome of a check. It is accepted if there is no problem."""

    problems: Sequence[str] = ()
    differences: Sequence[PolicyDifference] = ()
    omitted: int = 0
    """The differences beyond `MAX_DIFFERENCES`."""


@dataclass(frozen=True, slots=True)
class ChangedPolicies:
    """The outcome of a change."""

    revision: int
    differences: Sequence[PolicyDifference]


class PolicyAdministration:
    """Shows the policies and changes their overrides.

    Each method raises `PermissionDeniedError` and `InvalidRequestError`, a change also `StoreUnavailableError`.
    """

    def __init__(
        self,
        store: PolicyStore,
        policies: Policies,
        overrides: OverrideRegistry,
        parse_file: Callable[[str], Awaitable[PolicyBook]],
        problem: Callable[[], str],
        audit: Audit,
    ) -> None:
        """`parse_file` returns the policies of the text of a policy file; it raises `ConfigurationError`.

        `problem` tells why the newest policy file or overrides are not in force; empty: they are.
        """
        self._store = store
        self._policies = policies
        self._overrides = overrides
        self._parse_file = parse_file
        self._problem = problem
        self._audit = audit
        self._checking = asyncio.Lock()
        self._checks: set[asyncio.Task[PolicyCheck]] = set()

    def get(self, caller: Caller, client_id: str = "", audience: Sequence[str] = ()) -> PoliciesInForce:
        """Return the policies in force at this node; with a client, those of the client for tokens with an audience.

        Also raises `PolicyViolationError` if the policies lack the classification of the client.
        """
        admit(caller, UseCase.GET_POLICIES)
        checks = Checks()
        checks.text("client_id", client_id, MAX_CLIENT_ID)
        if audience and not client_id:
            checks.add("audience", "needs client_id")
        checks.done()
        policies = self._policies
        return PoliciesInForce(
            policies.values_for(client_id, audience) if client_id else values_of(policies.book),
            policies.classification(client_id) if client_id else "",
            policies.book.default,
            self._overrides.stored,
            self._problem(),
        )

    async def check_file(self, caller: Caller, text: str) -> PolicyCheck:
        """Check the text of a policy file, together with the environment and the overrides of this node.

        Also raises `OverloadedError`: a large file takes many seconds of a processor, so only one is checked at a time.
        """
        admit(caller, UseCase.CHECK_POLICIES)
        if len(text.encode("utf-8", "surrogatepass")) > MAX_FILE:
            raise InvalidRequestError.of("file", f"is longer than {MAX_FILE} bytes")
        if len(self._checks) >= MAX_CHECKS:
            raise OverloadedError("too many policy files are being checked", retry_after=1.0)
        task = asyncio.create_task(self._check_file(text), name="check-policies")
        self._checks.add(task)
        task.add_done_callback(self._checks.discard)
        # A cancelled call does not end the work in its thread, so the next check must wait for it.
        return await asyncio.shield(task)

    async def _check_file(self, text: str) -> PolicyCheck:
        async with self._checking:
            try:
                book = self._policies.with_file(await self._parse_file(text))
            except ConfigurationError as error:
                return PolicyCheck(_problems_of(error))
            return await asyncio.to_thread(_compared, self._policies.book, book)

    def check_overrides(self, caller: Caller, changes: Changes) -> PolicyCheck:
        """Check overrides, together with the policy file and the other overrides of this node."""
        admit(caller, UseCase.CHECK_POLICIES)
        _check_sizes("overrides", changes)
        found, problems = self._canonical(changes)
        if problems:
            return PolicyCheck([f"{changes[place][0]}: {problem}" for place, problem in problems.items()])
        try:
            book = self._policies.with_overrides({**self._overrides.stored.values, **found})
        except ConfigurationError as error:
            return PolicyCheck(_problems_of(error))
        return _compared(self._policies.book, book)

    def check_reset(self, caller: Caller, paths: Sequence[str]) -> PolicyCheck:
        """Check the removal of overrides, together with the policy file and the other overrides of this node."""
        admit(caller, UseCase.CHECK_POLICIES)
        checks = Checks()
        checks.texts("paths", paths, MAX_CHANGES, MAX_PATH)
        checks.done()
        kept = {
            path: value for path, value in self._overrides.stored.values.items() if path not in set(paths)
        }
        try:
            book = self._policies.with_overrides(kept)
        except ConfigurationError as error:
            return PolicyCheck(_problems_of(error))
        return _compared(self._policies.book, book)

    async def set(
        self, caller: Caller, changes: Changes, now: float, *, revision: int | None = None, comment: str = ""
    ) -> ChangedPolicies:
        """Set overrides; the others stay. They are in force at this node on return, at others within seconds.

        `revision`: the one that the caller has read; None: any. Raises `PoliciesChangedError`.
        """
        admit(caller, UseCase.SET_POLICIES)
        _check_sizes("changes", changes, comment)
        checks = Checks()
        found, problems = self._canonical(changes)
        for place, problem in problems.items():
            checks.add(f"changes.values[{place}]", f"{changes[place][0]}: {problem}")
        checks.done()
        return await self._change(caller, "set", lambda _stored: found, now, revision, comment)

    async def reset(
        self,
        caller: Caller,
        paths: Sequence[str],
        now: float,
        *,
        revision: int | None = None,
        comment: str = "",
    ) -> ChangedPolicies:
        """Remove overrides, all of them if no path is given. `revision` as in `set`. Raises `PoliciesChangedError`."""
        admit(caller, UseCase.RESET_POLICIES)
        checks = Checks()
        checks.texts("paths", paths, MAX_CHANGES, MAX_PATH)
        checks.text("comment", comment, MAX_COMMENT)
        known = {f"{name}.{each}" for name in self._policies.book.policies for each in SETTINGS}
        known |= set(self._overrides.stored.values)
        for place, path in enumerate(paths):
            if path not in known:
                checks.add(f"paths[{place}]", f"{path!r} is no setting of a classification")
        checks.done()
        return await self._change(
            caller, "reset", lambda stored: dict.fromkeys(paths or stored), now, revision, comment
        )

    async def _change(
        self,
        caller: Caller,
        operation: str,
        changes_of: Callable[[Mapping[str, str]], Mapping[str, str | None]],
        now: float,
        revision: int | None,
        comment: str,
    ) -> ChangedPolicies:
        for _ in range(_MAX_ATTEMPTS):
            stored = await self._store.load()
            if revision not in {None, stored.revision}:
                raise PoliciesChangedError(metadata={"revision": str(stored.revision)})
            changes = {
                path: value
                for path, value in changes_of(stored.values).items()
                if stored.values.get(path) != value
            }
            if not changes:
                await self._adopt(stored.revision)
                return ChangedPolicies(stored.revision, ())
            merged = {**stored.values, **changes}
            values = {path: value for path, value in merged.items() if value is not None}
            try:
                after = self._policies.with_overrides(values)
            except ConfigurationError as error:
                checks = Checks()
                for problem in _problems_of(error):
                    checks.add("changes.values" if operation == "set" else "paths", problem)
                checks.done()
                raise
            changed = list(differences(self._before(stored), after))
            event = AuditEvent(
                action=Action.POLICIES_CHANGED,
                actor=caller.actor(),
                target=Target("policies"),
                comment=comment,
                fields={
                    "operation": operation,
                    "revision": stored.revision + 1,
                    "before": {each: stored.values.get(each) for each in changes},
                    "after": changes,
                    "effect": {each.path: [each.before, each.after] for each in changed},
                },
            )
            if await self._store.change(
                changes, revision=stored.revision, now=now, by=caller.name, events=[event]
            ):
                self._audit.record(structs.replace(event, time=now))
                await self._adopt(stored.revision + 1)
                return ChangedPolicies(stored.revision + 1, changed)
        raise OverloadedError("other callers kept changing the policies; try again", retry_after=1.0)

    def _before(self, stored: StoredOverrides) -> PolicyBook:
        try:
            return self._policies.with_overrides(stored.values)
        except ConfigurationError:  # they contradict the file of this node, and are not in force here
            return self._policies.book

    async def _adopt(self, revision: int) -> None:
        with suppress(StoreUnavailableError):  # the change is durable, and the node follows it anyway
            await self._overrides.refresh(revision=revision)

    def _canonical(self, changes: Changes) -> tuple[dict[str, str], dict[int, str]]:
        """Return the values as they are stored, and the problems by the places of their changes."""
        found: dict[str, str] = {}
        problems: dict[int, str] = {}
        for place, (path, text) in enumerate(changes):
            try:
                if path in found:
                    raise ValueError("is set twice")
                found[path] = canonical(path, text, self._policies.book)
            except ValueError as error:
                problems[place] = str(error)
        return found, problems


def _check_sizes(field: str, changes: Changes, comment: str = "") -> None:
    checks = Checks()
    checks.text("comment", comment, MAX_COMMENT)
    if not 1 <= len(changes) <= MAX_CHANGES:
        checks.add(f"{field}.values", f"must have from 1 to {MAX_CHANGES} items")
    else:
        for place, (path, value) in enumerate(changes):
            checks.text(f"{field}.values[{place}].path", path, MAX_PATH, required=True)
            checks.text(f"{field}.values[{place}].value", value, MAX_VALUE, required=True)
        if sum(len(path) + len(value) for path, value in changes) > MAX_TOTAL:
            checks.add(f"{field}.values", f"have more than {MAX_TOTAL} characters")
    checks.done()


def _compared(before: PolicyBook, after: PolicyBook) -> PolicyCheck:
    found = differences(before, after)
    return PolicyCheck(differences=list(islice(found, MAX_DIFFERENCES)), omitted=sum(1 for _ in found))


def _problems_of(error: ConfigurationError) -> list[str]:
    """Return the single problems of an error that lists them, without its title."""
    title, *problems = error.message.splitlines()
    return [problem.strip() for problem in problems] or [title]
