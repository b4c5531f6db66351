"""Invariants of the keys under any sequence of checks, operator commands, restarts, stops and clock jumps."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine
from typing import Any

from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.memory_stores import MemoryStores
from tests.unit.core.key_nodes import ANNOUNCE, PERIOD, KeyFactory, KeyNode, NodeClock, TrueTime, published
from tests.unit.core.node import SYSTEM
from tests.unit.core.virtual_time import START
from token_service.core.keys.lifecycle import MAX_KEYS
from token_service.core.keys.store import SigningKeyState, StoredKeys, StoredSigningKey
from token_service.core.revocation.drafts import draft_of
from token_service.errors import KeyNotAnnouncedError, KeyStateError
from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import MAX_ACCESS_TOKEN_TTL
from token_service.tokens.revocation import RevocationTarget

DAY = 86400.0
NODES = st.integers(0, 1)
WHICH = st.integers(0, 5)
ALGORITHMS = st.sampled_from([Algorithm.ES256, Algorithm.EDDSA])
REFUSALS = (KeyStateError, KeyNotAnnouncedError)


class KeyMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.new_event_loop()
        self.true = TrueTime()
        self.factory = KeyFactory()
        self.stores = MemoryStores(NodeClock(self.true))
        self.nodes: list[KeyNode] = []
        self.stopped: set[int] = set()
        self.published_since: dict[str, float] = {}
        self.active: set[str] = set()
        self.revoked: set[str] = set()
        self.tokens: list[tuple[str, float]] = []

    def do(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self.loop.run_until_complete(work)

    def teardown(self) -> None:
        self.loop.close()

    def stored(self) -> StoredKeys:
        stored: StoredKeys = self.do(self.stores.keys.load())
        return stored

    def made(self, number: int, algorithm: Algorithm, skew: float) -> KeyNode:
        clock = NodeClock(self.true)
        clock.skew = skew
        return KeyNode(
            self.stores,
            clock,
            algorithm=algorithm,
            factory=self.factory,
            node_id=f"node-{number}-{self.true.elapsed}",
        )

    def running(self, number: int) -> KeyNode | None:
        return None if number in self.stopped else self.nodes[number]

    @initialize(algorithms=st.lists(ALGORITHMS, min_size=2, max_size=2))
    def begin(self, algorithms: list[Algorithm]) -> None:
        self.nodes = [self.made(number, algorithm, 0.0) for number, algorithm in enumerate(algorithms)]
        for node in self.nodes:
            self.do(node.start())
        self.watch()

    def watch(self) -> None:
        stored = self.stored()
        for key in stored.signing_keys:
            self.published_since.setdefault(key.key_id, self.true.elapsed)
        self.active = {key.key_id for key in stored.signing_keys if key.state is SigningKeyState.ACTIVE}

    # --- Events ---------------------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([1.0, ANNOUNCE / 2, ANNOUNCE, 4000.0, DAY, PERIOD]))
    def time_passes(self, seconds: float) -> None:
        for number in (0, 1):  # every node checks the keys at its usual interval
            self.schedule(number)
        self.true.elapsed += seconds
        for number, node in enumerate(self.nodes):
            if number not in self.stopped:
                self.do(node.keyring.refresh())

    @rule(number=NODES)
    def looks(self, number: int) -> None:
        self.schedule(number)

    @rule(number=NODES)
    def believes_to_lead(self, number: int) -> None:
        self.schedule(number, leads=True)

    def schedule(self, number: int, *, leads: bool = False) -> None:
        node = self.running(number)
        if node is None:
            return
        before, active = self.stored(), self.active
        self.do(node.rotation.advance() if leads else node.rotation._look_after())
        self.watch()
        for key_id in self.active - active:
            waited = self.true.elapsed - self.published_since[key_id]
            assert waited >= ANNOUNCE or not active, f"let a key sign after {waited} s"
        assert self.stored().revision - before.revision < 20, "steps without end"

    @rule(number=NODES, to=st.sampled_from([0.0, 60.0, -60.0, 400 * DAY, -400 * DAY, 3 * PERIOD]))
    def a_clock_jumps(self, number: int, to: float) -> None:
        self.nodes[number].clock.skew = to

    @rule(number=NODES)
    def stops(self, number: int) -> None:
        self.stopped.add(number)

    @rule(number=NODES)
    def goes_on(self, number: int) -> None:
        self.stopped.discard(number)
        self.do(self.nodes[number].keyring.refresh())

    @rule(number=NODES, algorithm=ALGORITHMS)
    def restarts(self, number: int, algorithm: Algorithm) -> None:
        node = self.made(number, algorithm, self.nodes[number].clock.skew)
        self.nodes[number] = node
        self.stopped.discard(number)
        self.do(node.start())
        self.watch()

    @rule(number=NODES)
    def issues(self, number: int) -> None:
        node = self.running(number)
        if node is not None:
            self.tokens.append((node.keyring.signer().key_id, self.true.elapsed + MAX_ACCESS_TOKEN_TTL))

    # --- Operators --------------------------------------------------------------------------------------------------

    def operate(
        self, number: int, which: int, act: Callable[[KeyNode, StoredSigningKey], Coroutine[Any, Any, Any]]
    ) -> None:
        node = self.running(number)
        keys = sorted(self.stored().signing_keys, key=lambda key: (key.state.value, key.key_id))
        if node is not None:
            with contextlib.suppress(*REFUSALS):
                self.do(act(node, keys[which % len(keys)]))
            self.watch()

    @rule(number=NODES, which=WHICH, algorithm=ALGORITHMS)
    def an_operator_prepares(self, number: int, which: int, algorithm: Algorithm) -> None:
        self.operate(number, which, lambda node, _: node.manager.prepare(SYSTEM, algorithm))

    @rule(number=NODES, which=WHICH)
    def an_operator_activates(self, number: int, which: int) -> None:
        self.operate(
            number, which, lambda node, key: node.manager.activate(SYSTEM, key.key_id, force=which == 0)
        )

    @rule(number=NODES, which=WHICH)
    def an_operator_retires(self, number: int, which: int) -> None:
        self.operate(number, which, lambda node, key: node.manager.retire(SYSTEM, key.key_id))

    @rule(number=NODES, which=WHICH)
    def an_operator_revokes(self, number: int, which: int) -> None:
        async def revoke(node: KeyNode, key: StoredSigningKey) -> None:
            async with node.manager.revoking(SYSTEM, key.key_id):
                await self.stores.log.append([draft_of(RevocationTarget.KEY, key.key_id, START)])
            self.revoked.add(key.key_id)
            for each in {0, 1} - self.stopped:
                await self.nodes[each].keyring.refresh()

        self.operate(number, which, revoke)

    # --- Invariants ------------------------------------------------------------------------------------------

    @precondition(lambda self: self.nodes)
    @invariant()
    def something_can_sign(self) -> None:
        assert self.active
        for number in {0, 1} - self.stopped:
            assert self.nodes[number].keyring.signer().key_id
            assert self.nodes[number].keyring.jwks

    @precondition(lambda self: self.nodes)
    @invariant()
    def every_good_token_verifies_everywhere(self) -> None:
        self.tokens = [(kid, until) for kid, until in self.tokens if until > self.true.elapsed]
        good = {kid for kid, _ in self.tokens} - self.revoked
        assert good <= published(self.stored())
        for number in {0, 1} - self.stopped:
            keyring = self.nodes[number].keyring
            if not all(keyring.key_set.get(kid) for kid in good):
                # Revocation times of an operator follow the wall clock, which may have jumped. A node that meets an
                # unknown key loads newer ones.
                self.do(keyring.refresh())
            assert all(keyring.key_set.get(kid) for kid in good)
            assert not any(keyring.key_set.get(kid) for kid in self.revoked)

    @precondition(lambda self: self.nodes)
    @invariant()
    def one_key_an_algorithm_signs_and_the_table_stays_small(self) -> None:
        keys = self.stored().signing_keys
        algorithms = [key.algorithm for key in keys if key.state is SigningKeyState.ACTIVE]
        assert len(set(algorithms)) == len(algorithms)
        assert len(keys) <= MAX_KEYS + 1
        assert all(key.state is SigningKeyState.REVOKED for key in keys if key.key_id in self.revoked)


TestKeyMachine = KeyMachine.TestCase
TestKeyMachine.settings = settings(
    max_examples=120, stateful_step_count=40, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
