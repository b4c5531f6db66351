"""Readers of the revocation stream without the client library: they record the place of each message in the log.

`python -m tests.faults.campaign.consumers PLAN`. The last reader is slow. Stopping the process stops all of them.
"""

from __future__ import annotations

import asyncio
import sys

import grpc

from tests.faults.campaign.calls import Node, is_passing, reason_of
from tests.faults.campaign.history import Journal, clock, to_ranges
from tests.faults.campaign.plan import Plan
from token_service.v1 import token_service_pb2 as pb

_SLOW = 0.7


async def _consume(name: str, node: Node, journal: Journal, pause: float) -> None:
    cursor = ""
    while True:
        journal.write("connect", v=name, at=clock(), cursor=cursor)
        try:
            request = pb.StreamRevocationsRequest(cursor=cursor, subscriber_id=name)
            async for message in node.method("StreamRevocations")(request):
                cursor = message.cursor or cursor
                journal.write(
                    "stream",
                    v=name,
                    at=clock(),
                    reset=message.reset,
                    blocks=len(message.snapshot_blocks),
                    entries=to_ranges(entry.sequence for entry in message.revocations),
                    cursor=message.cursor,
                )
                await asyncio.sleep(pause)
        except grpc.aio.AioRpcError as error:
            if not is_passing(error):
                now = clock()
                journal.write(
                    "rpc",
                    method="StreamRevocations",
                    code=error.code().name,
                    reason=reason_of(error),
                    b=now,
                    e=now,
                    text=error.details(),
                )
        await asyncio.sleep(0.3)


async def _main(plan: Plan) -> None:
    journal = Journal(plan.root / f"{plan.name}.jsonl")
    async with asyncio.TaskGroup() as group:
        for number, target in enumerate([*plan.targets, plan.targets[0]]):
            pause = _SLOW if number == len(plan.targets) else 0.0
            # Each start has its own name, so it begins with a snapshot.
            name = f"{plan.name}.{plan.seed}.{number}"
            group.create_task(_consume(name, Node(plan, target), journal, pause))


if __name__ == "__main__":
    asyncio.run(_main(Plan.parse(sys.argv[1])))
