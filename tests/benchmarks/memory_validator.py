"""One validator of the client library. The program starts it, waits until it is fresh, and prints its memory.

The report is a line of JSON: the bytes of resident memory at rest and at their highest, the seconds until the
validator was fresh, and the revocations that it knows.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import psutil

from tests.support.deadline import eventually
from token_service.client.config import ServiceIssuer, ValidatorConfig
from token_service.client.validator import TokenValidator

_PATIENCE = 100.0
_REST = 1.0


async def _main(address: str, issuer: str) -> None:
    began = time.perf_counter()
    config = ValidatorConfig(issuers=[ServiceIssuer(issuer=issuer, target=address)], audience="api")
    async with TokenValidator(config) as validator:
        state = validator._parts.follower_state
        assert state is not None
        await eventually(lambda: validator.is_fresh, timeout=_PATIENCE, interval=0.01)
        seconds = time.perf_counter() - began
        await asyncio.sleep(_REST)
        report = {
            "resident": psutil.Process().memory_info().rss,
            "highest": _highest(),
            "seconds": seconds,
            "revocations": len(state.feed.revocations),
        }
    print(json.dumps(report))


def _highest() -> int:
    """Return the bytes of the most memory of this process. `getrusage` counts the parent's memory as well."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:"))


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
