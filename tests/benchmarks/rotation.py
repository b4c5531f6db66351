"""ValidateToken while keys rotate every second, beside a node whose keys stay as they are."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from statistics import median

from tests.benchmarks.duel import Effort
from tests.benchmarks.rpcs import Target, access_request, target, validate_request
from tests.benchmarks.table import Row
from token_service.v1 import token_service_pb2 as pb

_ROTATING = {
    "TOKEN_SERVICE_KEY_ROTATION_PERIOD": "1s",
    "TOKEN_SERVICE_KEY_ANNOUNCE_TIME": "0s",
    "TOKEN_SERVICE_KEY_CHECK_INTERVAL": "100ms",
}
_TOKENS = 256


def validate_during_rotation(effort: Effort) -> Iterator[Row]:
    """Measure the slowest hundredth of calls during rotations.

    Each rotation makes a node verify its cached tokens again, which must hardly slow those calls.
    """
    with ExitStack() as stack:
        nodes = [
            stack.enter_context(target({"TOKEN_SERVICE_SIGNING_ALGORITHM": "ES256", **settings}))
            for settings in (_ROTATING, {})
        ]
        loads = [stack.enter_context(node.load("ValidateToken", _requests(node))) for node in nodes]
        for load in loads:
            load.run(1.0)
        rounds = [[load.run(effort.seconds) for load in loads] for _ in range(effort.rounds)]
    ours, reference = (median(pair[side].p99 for pair in rounds) for side in (0, 1))
    yield Row(
        "ValidateToken p99 while keys rotate every second",
        f"{ours * 1e3:.2f} ms",
        f"no rotation {reference * 1e3:.2f} ms",
        median(rotating.p99 / still.p99 for rotating, still in rounds),
    )


def _requests(node: Target) -> list[bytes]:
    replies = node.many("IssueToken", access_request().SerializeToString(), _TOKENS)
    tokens = [pb.IssueTokenResponse.FromString(reply).access_token for reply in replies]
    return [validate_request(token).SerializeToString() for token in tokens]
