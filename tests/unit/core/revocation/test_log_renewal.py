"""A renewed log begins beyond the seen sequence of every token, even if the database has lost entries."""

from __future__ import annotations

import asyncio
import copy
import random

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.memory_stores import MemoryStores
from tests.unit.core.node import SYSTEM, Intercepted, Node, RecordingAudit
from tests.unit.core.virtual_time import START, LoopClock, VirtualTimeLoop, settle, virtual_time
from token_service.core.issuing.commands import IssuedTokens
from token_service.core.revocation.log_renewal import (
    JUMP,
    MAX_SEQUENCE,
    LogChangedError,
    Renewal,
    next_start,
    renew_log,
)
from token_service.errors import ConfigurationError, InvalidReason, ServiceError
from token_service.tokens.claims import TokenKind
from token_service.tokens.revocation import Cursor, RevocationTarget

BOTH = frozenset({TokenKind.ACCESS, TokenKind.REFRESH})


class Site:
    """A node on a database that is backed up, restored and renewed."""

    def __init__(self) -> None:
        self.clock = LoopClock()
        self.stores = MemoryStores(self.clock)
        self.node = Node(self.clock, stores=self.stores, max_staleness=1e9)
        self.audit = RecordingAudit()
        self.random = random.Random(3)

    def backup(self) -> dict[str, object]:
        return copy.deepcopy(vars(self.stores.log._state))

    def restore(self, backup: dict[str, object]) -> None:
        vars(self.stores.log._state).update(copy.deepcopy(backup))

    async def renew(self, *, nothing_lost: bool = False) -> Renewal:
        log = self.stores.log
        return await renew_log(
            log,
            await log.head(),
            self.clock.now(),
            self.random.randbytes,
            self.audit,
            SYSTEM,
            nothing_lost=nothing_lost,
        )

    async def is_good(self, tokens: IssuedTokens) -> bool:
        await self.node.tailer._look()
        return (await self.node.validate(tokens.access_token)).reason is None


@virtual_time
async def test_renewal_revokes_tokens_from_before_and_after_the_backup_and_no_later_ones():
    site = Site()
    await site.node.start()
    await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    before = await site.node.issue(kinds=BOTH)
    backup = site.backup()
    for _ in range(5):
        await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    after = await site.node.issue(kinds=BOTH)
    assert await site.is_good(after)
    site.restore(backup)
    assert await site.is_good(before)
    assert await site.is_good(after)  # no entry would hit the token: its `rev` is ahead of the log
    renewal = await site.renew()
    assert renewal.before.sequence == 1
    for tokens in (before, after):
        assert not await site.is_good(tokens)
        with pytest.raises(ServiceError):
            await site.node.refresh(tokens.refresh_token)
    fresh = await site.node.issue(kinds=BOTH)
    assert await site.is_good(fresh)
    assert await site.is_good(await site.node.refresh(fresh.refresh_token))
    assert site.node.replica.cursor == renewal.after
    assert [event["after"] for event in site.audit.named("log.renewed")] == [str(renewal.after)]


@virtual_time
async def test_second_renewal_from_the_same_backup_exceeds_the_lost_first_one():
    site = Site()
    await site.node.start()
    backup = site.backup()
    issued: list[IssuedTokens] = []
    for _ in range(3):
        await asyncio.sleep(0.001)
        site.restore(backup)
        await site.renew()
        for tokens in issued:
            assert not await site.is_good(tokens)
        await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
        await site.node.tailer._look()
        issued.append(await site.node.issue())
        assert await site.is_good(issued[-1])


@virtual_time
async def test_renewal_of_a_restored_log_exceeds_two_lost_renewals():
    site = Site()
    await site.node.start()
    backup = site.backup()
    for _ in range(2):
        await asyncio.sleep(1)
        await site.renew()
    await site.node.tailer._look()
    issued = await site.node.issue()
    assert await site.is_good(issued)
    site.restore(backup)
    await asyncio.sleep(1)
    await site.renew()
    assert not await site.is_good(issued)


@virtual_time
async def test_key_revoked_before_the_backup_stays_revoked_for_followers():
    site = Site()
    await site.node.start()
    key_id = site.node.keyring.signer().key_id
    tokens = await site.node.issue()
    await site.node.revoke(target=RevocationTarget.KEY, value=key_id)
    await settle()
    renewal = await site.renew()
    await site.node.tailer._look()
    assert site.node.replica.revocations.has_key(key_id)
    assert renewal.after.sequence == round(START * 1_000_000) + 1
    assert not await site.is_good(tokens)


@virtual_time
async def test_log_renewed_concurrently_is_not_renewed_again():
    site = Site()
    await site.node.start()
    head = await site.stores.log.head()
    renewal = await site.renew()
    with pytest.raises(LogChangedError):
        await renew_log(site.stores.log, head, site.clock.now(), site.random.randbytes, site.audit, SYSTEM)
    found = await site.stores.log.head()
    assert Cursor(found.epoch, found.sequence) == renewal.after


@virtual_time
@pytest.mark.parametrize("skew", [-400.0, 400.0, 1e9])
async def test_renewal_with_a_clock_off_the_database_clock_is_refused(skew: float):
    site = Site()
    await site.node.start()
    head = await site.stores.log.head()
    with pytest.raises(ConfigurationError, match="apart"):
        await renew_log(
            site.stores.log, head, site.clock.now() + skew, site.random.randbytes, site.audit, SYSTEM
        )
    assert await site.stores.log.head() == head


def test_next_start_is_the_clock_or_a_jump():
    assert next_start(12, START) == START * 1_000_000
    renewed = round((START - 1) * 1_000_000)
    assert next_start(renewed + 999_999, START) == START * 1_000_000
    # With a clock that is behind, or in a log that was renewed with a clock that was ahead.
    assert next_start(10**7, 5.0) == 10**7 + JUMP
    ahead = round((START + 1e9) * 1_000_000)
    assert next_start(ahead, START) == ahead + JUMP


@pytest.mark.parametrize(("sequence", "now"), [(0, 1e12), (MAX_SEQUENCE - 1, START)])
def test_renewal_start_beyond_the_allowed_range_is_refused(sequence: int, now: float):
    with pytest.raises(ConfigurationError, match="the clock"):
        next_start(sequence, now)


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_renewal_revokes_earlier_tokens_for_any_lost_history(data: st.DataObject):
    """Backups, restores, revocations and renewals in any order: tokens issued before the last renewal stay
    revoked.
    """

    async def scenario() -> None:
        site = Site()
        await site.node.start()
        backups = [site.backup()]
        issued: list[IssuedTokens] = []
        for _ in range(data.draw(st.integers(1, 12), "steps")):
            await asyncio.sleep(0.01)
            step = data.draw(st.sampled_from(["issue", "revoke", "backup", "restore"]), "step")
            if step == "issue":
                await site.node.tailer._look()
                issued.append(await site.node.issue())
            elif step == "revoke":
                await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
            elif step == "backup":
                backups.append(site.backup())
            else:
                site.restore(data.draw(st.sampled_from(backups), "which"))
                if data.draw(st.booleans(), "served"):  # before it is renewed
                    await site.node.tailer._look()
                    issued.append(await site.node.issue())
                await site.renew()
                for tokens in issued:
                    assert not await site.is_good(tokens)
                assert await site.is_good(await site.node.issue())

    with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
        runner.run(scenario())


@virtual_time
async def test_node_reading_during_a_renewal_skips_to_the_renewed_log():
    """The node read a head of the previous log, and then entries of the renewed one."""
    site = Site()
    log = Intercepted(site.stores.log)
    node = await Node(site.clock, stores=site.stores, log=log, node_id="node-2").start()
    await site.node.start()
    old = await site.node.issue()
    await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")

    async def renew() -> None:
        del log.after["head"]
        await site.renew()

    log.after["head"] = renew
    await node.tailer._look()
    assert (await node.validate(old.access_token)).reason is InvalidReason.REVOKED
    await node.tailer._look()
    head = await site.stores.log.head()
    assert node.replica.cursor == Cursor(head.epoch, head.sequence)
    assert (await node.validate((await node.issue()).access_token)).reason is None


@virtual_time
async def test_renewal_of_a_complete_log_keeps_every_entry():
    site = Site()
    await site.node.start()
    revoked = await site.node.issue(subject="bob", kinds=BOTH)
    await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    good = await site.node.issue(subject="bob", kinds=BOTH)
    renewal = await site.renew(nothing_lost=True)
    assert renewal.before.epoch != renewal.after.epoch

    other = await Node(site.clock, stores=site.stores, node_id="node-2").start()
    for node in (site.node, other):
        await node.tailer._look()
        assert node.replica.cursor == renewal.after
        assert (await node.validate(revoked.access_token)).reason is InvalidReason.REVOKED
        assert (await node.validate(good.access_token)).reason is None
    assert await site.is_good(await site.node.refresh(good.refresh_token))
    await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")
    assert not await site.is_good(good)
    assert await site.is_good(await site.node.issue(subject="bob"))


@virtual_time
async def test_node_reading_during_the_renewal_of_a_complete_log_crosses_the_gap():
    """One page has entries from before and after the renewal."""
    site = Site()
    log = Intercepted(site.stores.log)
    node = await Node(site.clock, stores=site.stores, log=log, node_id="node-2").start()
    await site.node.start()
    good = await site.node.issue()
    revoked = await site.node.issue(subject="bob")
    await site.node.revoke(target=RevocationTarget.SUBJECT, value="bob")

    async def renew() -> None:
        del log.after["head"]
        await site.renew(nothing_lost=True)
        await site.node.tailer._look()
        await site.node.revoke(target=RevocationTarget.SUBJECT, value="carol")

    log.after["head"] = renew
    for _ in range(2):
        await node.tailer._look()
        assert (await node.validate(revoked.access_token)).reason is InvalidReason.REVOKED
        assert (await node.validate(good.access_token)).reason is None
    head = await site.stores.log.head()
    assert node.replica.cursor == Cursor(head.epoch, head.sequence)
