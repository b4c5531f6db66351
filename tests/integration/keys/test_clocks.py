"""Two nodes on one real database whose wall clocks jump, together and apart, through two rotations."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.memory_audit import AUDIT_KEYS
from tests.unit.core.key_nodes import ANNOUNCE, PERIOD, KeyFactory, KeyNode, NodeClock, TrueTime, published
from token_service.core.keys.lifecycle import PUBLISHED_AFTER_RETIREMENT
from token_service.stores.sql import SqlStores

DAY = 86400.0


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """An empty database."""
    if request.param == "sqlite":
        return f"sqlite+aiosqlite:///{tmp_path / 'stores.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize("skews", [(0.0, 400 * DAY), (-400 * DAY, 0.0), (400 * DAY, -400 * DAY)])
async def test_clock_jumps_invalidate_no_token_and_stop_no_rotation(
    url: str, skews: tuple[float, float]
) -> None:
    true, factory = TrueTime(), KeyFactory()
    async with (
        SqlStores(url, audit_keys=AUDIT_KEYS, node_id="one") as stores,
        SqlStores(url, audit_keys=AUDIT_KEYS, node_id="other") as others,
    ):
        await stores.migrate()
        nodes = [
            KeyNode(each, NodeClock(true), factory=factory, node_id=f"node-{number}")
            for number, each in enumerate((stores, others))
        ]
        for node in nodes:
            await node.start()
        signed: list[tuple[str, float]] = []
        known: set[str] = set()

        async def pass_time(seconds: float) -> None:
            """Let both nodes advance as if each led; keys cached by validators for the announcement must suffice."""
            for step in (ANNOUNCE / 2,) * 2 + (seconds - ANNOUNCE,):
                before = published(await nodes[0].stored())
                for node in nodes:
                    await node.rotation.advance()
                true.elapsed += step
                for node in nodes:
                    await node.keyring.refresh()
                    key_id = node.keyring.signer().key_id
                    assert key_id in before | known, "signed with a key that was only just published"
                    signed.append((key_id, true.elapsed + 3600))
                known.update(before)
            good = {key_id for key_id, until in signed if until > true.elapsed}
            assert good <= published(await nodes[0].stored())

        async def rotate() -> None:
            first = nodes[0].keyring.signer().key_id
            for _ in range(8):
                await pass_time(PERIOD / 4)
                if nodes[0].keyring.signer().key_id != first:
                    return
            pytest.fail("no rotation")

        await pass_time(2 * ANNOUNCE)
        await rotate()
        for node, skew in zip(nodes, skews, strict=True):
            node.clock.skew = skew
            await pass_time(2 * ANNOUNCE)
        await rotate()
        for node in nodes:
            node.clock.skew = 0.0
            await pass_time(2 * ANNOUNCE)
        await rotate()
        await pass_time(2.0 * PUBLISHED_AFTER_RETIREMENT)
        await pass_time(2.0 * PUBLISHED_AFTER_RETIREMENT)
        states = sorted((await nodes[0].states()).values())
        assert states == ["active", "prepared"]
