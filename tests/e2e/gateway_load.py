"""Many requests through a proxy while keys rotate and tokens are revoked, and the search for false answers."""

from __future__ import annotations

import http.client
import itertools
import threading
import time
from dataclasses import dataclass, field

from tests.e2e.gateway_world import World

_CONNECTIONS = 4
_TOKENS = 24


@dataclass(eq=False)
class _Token:
    text: str
    revoking: float = float("inf")
    """When the revocation was asked for."""
    revoked: float = float("inf")
    """When the gateway had applied it."""


@dataclass(frozen=True)
class _Answer:
    token: _Token
    asked: float
    answered: float
    status: int

    @property
    def is_false(self) -> bool:
        if self.asked > self.token.revoked:
            return self.status != 401
        if self.answered < self.token.revoking:
            return self.status != 200
        return self.status not in {200, 401}


@dataclass
class _Run:
    tokens: list[_Token]
    numbers: itertools.count[int] = field(default_factory=itertools.count)
    answers: list[_Answer] = field(default_factory=list)


def requests_during_changes(world: World, count: int) -> None:
    """Send `count` requests on a few connections. Every answer must be right.

    Right: 200 for a token that is not revoked, also while keys rotate; 401 for a request after the acknowledgment of the
    revocation; one of them in between.
    """
    run = _Run([_Token(world.issue()) for _ in range(_TOKENS)])
    stopped = threading.Event()
    failures: list[BaseException] = []
    rotations = revocations = 0

    def client() -> None:
        connection = world.connect()
        try:
            while not stopped.is_set() and (number := next(run.numbers)) < count:
                token = run.tokens[number % _TOKENS]
                run.answers.append(_ask(connection, token))
        except BaseException as error:
            failures.append(error)
            raise
        finally:
            connection.close()

    world.upstream.keep = False
    threads = [threading.Thread(target=client, name=f"client-{number}") for number in range(_CONNECTIONS)]
    try:
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            place = revocations % _TOKENS
            token = run.tokens[place]
            token.revoking = time.monotonic()
            world.revoke(token.text)
            token.revoked = time.monotonic()
            revocations += 1
            wanted = len(run.answers) + 3 * _TOKENS  # requests with the revoked token
            while len(run.answers) < wanted and any(thread.is_alive() for thread in threads):
                threads[0].join(0.02)
            if revocations % 4 == 0:
                world.rotate_keys()
                rotations += 1
            run.tokens[place] = _Token(world.issue())
    finally:
        stopped.set()
        for thread in threads:
            thread.join()
        world.upstream.keep = True
    assert not failures, failures
    assert len(run.answers) == count
    false = [
        (answer.status, answer.asked - answer.token.revoked, answer.answered - answer.token.revoking)
        for answer in run.answers
        if answer.is_false
    ]
    assert not false, false[:20]
    assert rotations >= 2, rotations
    assert revocations >= 12, revocations
    refused = sum(answer.asked > answer.token.revoked for answer in run.answers)
    assert refused > revocations, (refused, revocations)
    print(f"{count} requests, {rotations} rotations, {revocations} revocations, {refused} requests after one")


def _ask(connection: http.client.HTTPSConnection, token: _Token) -> _Answer:
    asked = time.monotonic()
    connection.request("GET", "/orders/1", headers={"Authorization": f"Bearer {token.text}"})
    response = connection.getresponse()
    response.read()
    return _Answer(token, asked, time.monotonic(), response.status)
