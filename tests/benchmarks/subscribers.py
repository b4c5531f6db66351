"""Many validators in one process, each with its own connection, stream and revocation set, with generated stubs only.

The program opens the streams and then takes commands, one per line. `watch <token>` names the token that will be
revoked next. `since <time>` (of `time.monotonic`, at the revocation) returns how long each validator took to reject
it. Answers are lines of JSON.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Iterable
from typing import Any

import grpc

from token_service.tokens.algorithms import Algorithm
from token_service.tokens.claims import VerifiedClaims
from token_service.tokens.key_set import KeySet
from token_service.tokens.revocation import Revocation, RevocationTarget
from token_service.tokens.revocation_set import RevocationSet
from token_service.tokens.verifier import IssuerRules, Verifier
from token_service.v1 import token_service_pb2 as pb, token_service_pb2_grpc

_PATIENCE = 30.0
_TARGETS = {
    "token_id": RevocationTarget.TOKEN_ID,
    "session_id": RevocationTarget.SESSION,
    "subject": RevocationTarget.SUBJECT,
    "client_id": RevocationTarget.CLIENT,
    "key_id": RevocationTarget.KEY,
    "everything": RevocationTarget.EVERYTHING,
}


class _Subscriber:
    """One validator. It reports a rejection when its own set says that the token is revoked."""

    def __init__(self, address: str, number: int, watched: _Watched) -> None:
        self._channel = grpc.aio.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)])
        self._number = number
        self._watched = watched
        self._revocations = RevocationSet()
        self.ready = asyncio.Event()

    async def run(self) -> None:
        stub: Any = token_service_pb2_grpc.TokenServiceStub(self._channel)
        stream = stub.StreamRevocations(pb.StreamRevocationsRequest())
        async for message in stream:
            for entry in message.revocations:
                self._revocations.apply(_revocation(entry))
            if message.caught_up:
                self.ready.set()
            if self._watched.claims is not None and self._revocations.find(self._watched.claims):
                self._watched.rejected(self._number)

    async def close(self) -> None:
        await self._channel.close()


class _Watched:
    """The token that all validators look for, and the time of each rejection."""

    def __init__(self, count: int) -> None:
        self.claims: VerifiedClaims | None = None
        self._count = count
        self._times: dict[int, float] = {}
        self._all = asyncio.Event()

    def start(self, claims: VerifiedClaims) -> None:
        self.claims = claims
        self._times.clear()
        self._all.clear()

    def rejected(self, number: int) -> None:
        self._times.setdefault(number, time.monotonic())
        if len(self._times) == self._count:
            self._all.set()

    async def times(self) -> Iterable[float]:
        async with asyncio.timeout(_PATIENCE):
            await self._all.wait()
        return self._times.values()


def _revocation(entry: pb.Revocation) -> Revocation:
    target = entry.WhichOneof("target")
    assert target is not None
    return Revocation(
        entry.sequence,
        _TARGETS[target],
        "" if target == "everything" else getattr(entry, target),
        entry.revoke_time.seconds + entry.revoke_time.nanos / 1e9,
        entry.expire_time.seconds + entry.expire_time.nanos / 1e9,
        token_expire_time=entry.token_expire_time.seconds if entry.HasField("token_expire_time") else None,
    )


async def _main(address: str, issuer: str, jwks: str, count: int) -> None:
    rules = IssuerRules(issuer, frozenset(Algorithm))
    verifier = Verifier([(rules, KeySet.from_jwks(json.loads(jwks)["keys"]))])
    watched = _Watched(count)
    subscribers = [_Subscriber(address, number, watched) for number in range(count)]
    tasks = [asyncio.create_task(subscriber.run()) for subscriber in subscribers]
    async with asyncio.timeout(120):
        await asyncio.gather(*(subscriber.ready.wait() for subscriber in subscribers))
    print("{}", flush=True)
    loop = asyncio.get_running_loop()
    lines = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := (await lines.readline()).decode():
        command, _, argument = line.strip().partition(" ")
        if command == "watch":
            watched.start(verifier.verify(argument))
            print("{}", flush=True)
        else:
            began = float(argument)
            print(json.dumps([at - began for at in await watched.times()]), flush=True)
    for task in tasks:
        task.cancel()
    for subscriber in subscribers:
        await subscriber.close()


if __name__ == "__main__":
    import uvloop

    uvloop.run(_main(sys.argv[1], sys.argv[2], sys.argv[3], int(sys.argv[4])))
