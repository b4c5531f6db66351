"""Defects that the campaign puts into its own processes to show that the judge finds them.

The product has no switch for defects: this module patches functions in processes that the harness starts.
"""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


def _nothing() -> None:
    return None


@dataclass(frozen=True)
class Defect:
    """A known defect."""

    name: str
    summary: str
    in_node: Callable[[], None] = _nothing
    in_validator: Callable[[], None] = _nothing
    kinds: tuple[str, ...] = ()
    """Kinds of faults that reveal it; empty: any kind does."""


def _verdict_of_the_old_set() -> None:
    """Look up the token, and accept a proof from up to a second later as a proof of that look-up."""
    from token_service.client._internal.local import LocalValidator

    check = LocalValidator.check
    clean: dict[str, float] = {}

    def defective(self: Any, token: str, audience: Any, required_scopes: Any) -> Any:
        entry = self.cache.get(token)
        if entry is not None:
            now, elapsed = self._now(), self._elapsed()
            if not entry.feed.is_fresh(now, elapsed):
                if entry.feed.revocations.find(entry.claims) is None:
                    clean[token] = elapsed
            elif elapsed - clean.get(token, float("-inf")) < 1.0 and now < entry.valid_until:
                return entry.claims
        return check(self, token, audience, required_scopes)

    LocalValidator.check = defective  # type: ignore[method-assign]


def _shared_answer_taken_for_new() -> None:
    """Treat the answer of a joined call as an answer to a question asked on joining."""
    from dataclasses import replace

    from token_service.client import sync_validator, validator
    from token_service.client._internal.clock import Instant

    ask = validator._Service.ask
    ask_in_thread = sync_validator._Service.ask

    async def defective(self: Any, question: Any) -> Any:
        joined = Instant.of(self._parts.clock)
        answer = await ask(self, question)
        return answer and replace(answer, asked=joined)

    def defective_in_thread(self: Any, question: Any) -> Any:
        joined = Instant.of(self._parts.clock)
        answer = ask_in_thread(self, question)
        return answer and replace(answer, asked=joined)

    validator._Service.ask = defective  # type: ignore[method-assign]
    sync_validator._Service.ask = defective_in_thread  # type: ignore[method-assign]


def _standby_taken_for_primary() -> None:
    """Report every server as writable, with the timeline that it follows."""
    from token_service.stores.sql.engine import servers

    replacements = {
        "current_setting('transaction_read_only') = 'off'": "true",
        "left(pg_walfile_name(pg_current_wal_lsn()), 8)": (
            "lpad(upper(to_hex((SELECT timeline_id FROM pg_control_checkpoint()))), 8, '0')"
        ),
    }

    def twisted(query: str) -> str:
        for correct, wrong in replacements.items():
            query = query.replace(correct, wrong)
        return query

    class Credulous(servers._Connection):
        __slots__ = ()

        async def execute(self, query: str, *arguments: Any, **options: Any) -> Any:
            return await super().execute(twisted(query), *arguments, **options)

        async def _get_statement(self, query: str, *arguments: Any, **options: Any) -> Any:
            return await super()._get_statement(twisted(query), *arguments, **options)

    servers._Connection = Credulous  # type: ignore[misc]


def _stream_skips_an_entry() -> None:
    """Omit every fifth entry while the cursor advances."""
    from token_service.rpc.stream import feed

    module: Any = feed  # imports the function from another module
    encode = module.encode_entry
    module.encode_entry = lambda entry: b"" if entry.sequence % 5 == 0 else encode(entry)


def _cursor_before_data() -> None:
    """Advance and prove the validator's cursor before the entries are in its set."""
    from token_service.client._internal.following.messages import revocation_of
    from token_service.client._internal.following.state import FollowerState

    apply = FollowerState.apply

    def defective(self: Any, message: Any) -> None:
        if self._building is not None or not message.revocations:
            apply(self, message)
            return
        late = [revocation_of(entry) for entry in message.revocations]
        empty = type(message)()
        empty.CopyFrom(message)
        for entry in empty.revocations:
            entry.token_id = "none"
        apply(self, empty)
        timer = threading.Timer(5.0, lambda: [self.feed.revocations.apply(entry) for entry in late])
        timer.daemon = True
        timer.start()

    FollowerState.apply = defective  # type: ignore[method-assign]


def _cache_hit_unchecked() -> None:
    """Accept a cached token for as long as it is in the cache."""
    from token_service.client._internal.local import LocalValidator

    check = LocalValidator.check

    def defective(self: Any, token: str, audience: Any, required_scopes: Any) -> Any:
        entry = self.cache.young.get(token)
        return entry.claims if entry is not None else check(self, token, audience, required_scopes)

    LocalValidator.check = defective  # type: ignore[method-assign]


def _rotation_without_compare() -> None:
    """Exchange a refresh token without comparing it with the current one."""
    from token_service.stores.sql import session_statements

    rotate = session_statements.rotate

    def defective(*, judged: bool = False) -> Any:
        statement: Any = rotate(judged=judged)
        compared = ("p_generation", "p_current_hash")
        statement._where_criteria = tuple(
            each for each in statement._where_criteria if not any(name in str(each) for name in compared)
        )
        return statement

    session_statements.rotate = defective


def _acknowledgment_before_commit() -> None:
    """Answer RevokeToken before the revocation is written."""
    from token_service.core.revocation.revoker import Revoker
    from token_service.tokens.revocation import Cursor

    append = Revoker.append
    tasks: set[Any] = set()

    async def defective(self: Any, drafts: Any) -> Any:
        head = await self._read_index.head()

        async def later() -> None:
            await asyncio.sleep(random.uniform(0.0, 0.3))
            await append(self, drafts)

        task = asyncio.create_task(later())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return Cursor(head.epoch, head.sequence + len(drafts))

    Revoker.append = defective  # type: ignore[method-assign]


DEFECTS = {
    defect.name: defect
    for defect in (
        Defect(
            "verdict-of-old-set",
            "a verdict of the old set with a proof of the new one",
            in_validator=_verdict_of_the_old_set,
            kinds=("connections held between validators and nodes",),
        ),
        Defect(
            "shared-answer",
            "a shared REMOTE answer taken for a new one",
            in_validator=_shared_answer_taken_for_new,
            kinds=("validators without a stream, answered late",),
        ),
        Defect(
            "standby-as-primary",
            "a standby taken for the primary",
            in_node=_standby_taken_for_primary,
            kinds=("node redirected to the standby",),
        ),
        Defect("stream-skips-entry", "a stream that skips an entry", in_node=_stream_skips_an_entry),
        Defect("cursor-before-data", "progress ahead of data", in_validator=_cursor_before_data),
        Defect(
            "cache-unchecked",
            "a cache hit without expiry or revocation check",
            in_validator=_cache_hit_unchecked,
        ),
        Defect(
            "rotation-without-compare", "rotation without compare-and-set", in_node=_rotation_without_compare
        ),
        Defect(
            "ack-before-commit",
            "an acknowledgment before the commit",
            in_node=_acknowledgment_before_commit,
        ),
    )
}
