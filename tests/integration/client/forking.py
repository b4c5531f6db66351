"""A program that forks: run as `python -m tests.integration.client.forking MODE TARGET ISSUER TOKEN`.

It prints one JSON object per line: the observations of the child, then how the child ended and the observations of
the parent.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import threading
from typing import Any

from token_service.client import ServiceIssuer, SyncTokenValidator, TokenValidator, ValidatorConfig
from token_service.client.config import Freshness, WhenStale
from token_service.errors import TokenServiceError

_EXIT = 7


def config(target: str, issuer: str) -> ValidatorConfig:
    """Return a configuration that would accept for a long time and ask, if it were allowed to."""
    freshness = Freshness(bound=60.0, when_stale=(WhenStale.REMOTE, WhenStale.ACCEPT), accept_for=3600.0)
    return ValidatorConfig(
        issuers=[ServiceIssuer(issuer=issuer, target=target, freshness=freshness)], audience=None
    )


def outcome(call: Any, *args: Any) -> str:
    """Return the result of a call, or the name of its error."""
    try:
        return str(call(*args))
    except TokenServiceError as error:
        return type(error).__name__


def tell(**found: Any) -> None:
    """Print one line."""
    print(json.dumps(found), flush=True)


def step(coroutine: Any) -> Any:
    """Run a coroutine that must not wait."""
    try:
        coroutine.send(None)
    except StopIteration as done:
        return done.value
    raise AssertionError("it waits")


def parent_waits(pid: int) -> int:
    """Return the exit code of the child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def after_start(validator: SyncTokenValidator, token: str) -> None:
    """Fork while the validator runs; the parent continues."""
    with validator:
        assert validator.wait_ready(100)
        assert validator.validate(token).subject == "user-1"
        pid = os.fork()
        if pid == 0:
            status = validator.status()
            tell(
                validate=outcome(lambda: validator.validate(token)),
                fresh=validator.is_fresh,
                explained=validator.explain(token).accepted,
                ready=outcome(lambda: validator.wait_ready(100)),
                start=outcome(validator.start),
                status=[status.ready, status.fresh, status.connected],
                problem=status.problem,
            )
            validator.close()
            tell(closed=outcome(lambda: validator.validate(token)))
            sys.exit(_EXIT)
        tell(child=parent_waits(pid), parent=validator.validate(token).subject, fresh=validator.is_fresh)


def after_start_in_a_loop(validator: TokenValidator, token: str) -> None:
    """Fork while a validator of an event loop runs in another thread."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(100)

    run(validator.start())
    assert run(validator.wait_ready(100))
    assert run(validator.validate(token)).subject == "user-1"
    pid = os.fork()
    if pid == 0:
        status = validator.status()
        tell(
            validate=outcome(lambda: step(validator.validate(token))),
            fresh=validator.is_fresh,
            explained=validator.explain(token).accepted,
            ready=outcome(lambda: asyncio.run(validator.wait_ready(100))),
            start=outcome(lambda: asyncio.run(validator.start())),
            status=[status.ready, status.fresh, status.connected],
            problem=status.problem,
        )
        step(validator.close())
        tell(closed=outcome(lambda: step(validator.validate(token))))
        sys.exit(_EXIT)
    tell(child=parent_waits(pid), parent=run(validator.validate(token)).subject, fresh=validator.is_fresh)
    run(validator.close())
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()


def before_start(validator: SyncTokenValidator, token: str) -> None:
    """Fork between construction and start, like a server whose workers start the validator."""
    pid = os.fork()
    if pid == 0:
        with validator:
            tell(ready=validator.wait_ready(100), validate=validator.validate(token).subject)
        sys.exit(_EXIT)
    tell(child=parent_waits(pid))


def after_close(validator: SyncTokenValidator, token: str) -> None:
    """Fork after the validator was closed, which the check for forks must not report."""
    with validator:
        assert validator.wait_ready(100)
    pid = os.fork()
    if pid == 0:
        tell(problem=validator.status().problem)
        os._exit(_EXIT)
    tell(child=parent_waits(pid))


def main() -> None:
    """Run the mode in the arguments."""
    mode, target, issuer, token = sys.argv[1:]
    settings = config(target, issuer)
    if mode == "after start, async":
        after_start_in_a_loop(TokenValidator(settings), token)
    else:
        run = {"after start, sync": after_start, "before start": before_start, "after close": after_close}[
            mode
        ]
        run(SyncTokenValidator(settings), token)


if __name__ == "__main__":
    main()
