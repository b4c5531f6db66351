"""Keys rotate, change their algorithm and are revoked while tokens are issued and validated: only tokens of the revoked
key are refused.
"""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.integration.keys.fleet import BOUND, ISSUER, Fleet
from tests.integration.nodes import Node, nodes

SETTINGS = {
    "TOKEN_SERVICE_ISSUER": ISSUER,
    "TOKEN_SERVICE_SIGNING_ALGORITHM": "RS256",
    "TOKEN_SERVICE_KEY_ROTATION_PERIOD": "3s",
    "TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "2s",
    "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms",
}


async def restart(node: Node, **settings: str) -> None:
    node._settings.update({f"TOKEN_SERVICE_{name}": value for name, value in settings.items()})
    await asyncio.to_thread(node.restart)


@pytest.mark.slow
@pytest.mark.timeout(600)
async def test_rotations_and_a_change_of_algorithm_refuse_no_good_token(shared_postgres_url: str) -> None:
    with nodes(2, {**SETTINGS, "TOKEN_SERVICE_DATABASE_URL": shared_postgres_url}) as (first, second):
        async with Fleet([first, second]) as fleet:
            # Three rotations.
            await fleet.until(lambda: len(fleet.keys_of("RS256")) >= 4)

            # Change the algorithm one node after the other; meanwhile the nodes disagree, and keys still rotate.
            await restart(first, SIGNING_ALGORITHM="ES256")
            before = len(fleet.keys_of("RS256") | fleet.keys_of("ES256"))
            await fleet.until(lambda: len(fleet.keys_of("RS256") | fleet.keys_of("ES256")) > before)
            await restart(second, SIGNING_ALGORITHM="ES256")
            fleet.issued.clear()
            await fleet.until(
                lambda: {number for number, _, used in fleet.issued if used == "ES256"} == {0, 1}
            )
            await fleet.until(lambda: len(fleet.keys_of("ES256")) >= 2)

            # Revoke the signing key.
            fleet.issued.clear()
            await fleet.until(lambda: fleet.issued)
            ((_, key_id, _), _) = fleet.issued.most_common(1)[0]
            began = time.monotonic()
            await fleet.kill(key_id, fleet.apis[1])
            fleet.issued.clear()
            await fleet.until(
                lambda: {number for number, used, _ in fleet.issued if used != key_id} == {0, 1}
            )
            await fleet.until(lambda: time.monotonic() > fleet.killed[key_id] + 2 * BOUND)
            await fleet.until(lambda: fleet.verdicts["refused"] > 0)  # tokens of the revoked key
            await fleet.until(lambda: fleet.verdicts["accepted"] > 1000)
            assert began < fleet.killed[key_id]
