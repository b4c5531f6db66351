"""The network between the processes, in a process of its own: proxies that a campaign cuts, holds and slows.

`python -m tests.faults.campaign.network DIRECTORY` takes orders as JSON lines from its standard input and answers
each with a line. It ends with its input.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from tests.faults.campaign.gateway import Gateway
from tests.faults.proxy import Proxy

_PATIENCE = 10.0
"""Seconds in which the process must have ended after its input has."""


class Network:
    """The process, as the campaign sees it. Any thread may give orders."""

    def __init__(self, directory: Path) -> None:
        """`directory`: where the certificates are, and its log."""
        with (directory / "network.log").open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "tests.faults.campaign.network", str(directory)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )
        self._lock = threading.Lock()

    def close(self) -> None:
        """End it."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()

    def link(self, upstream: str) -> Link:
        """Another proxy, in front of `host:port`."""
        return Link(self, *self.order("link", upstream))

    def gateway(self, upstream: str, delay: float) -> str:
        """Address of another `Gateway` in front of a node."""
        address: str = self.order("gateway", upstream, delay)
        return address

    def order(self, name: str, *arguments: object) -> Any:
        """Have something done; what came of it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the network has ended; its log says why")
        return json.loads(answer)


class Link:
    """A proxy in the network; see `Proxy` for what can be done to it."""

    def __init__(self, network: Network, number: int, address: str) -> None:
        self._network = network
        self._number = number
        self.address = address

    def lead_to(self, upstream: str) -> None:
        """Forward connections made from now on to this `host:port`, and reset what is connected."""
        self._do("lead_to", upstream)
        self._do("reset")

    def cut(self) -> None:
        """Reset what is connected and refuse what comes."""
        self._do("cut")

    def hold(self) -> None:
        """Let nothing arrive before `heal`."""
        self._do("hold")

    def reset(self) -> None:
        """Reset what is connected, and take what comes."""
        self._do("reset")

    def slow(self, seconds: float) -> None:
        """Let everything arrive, each piece so much later."""
        self._do("slow", seconds)

    def heal(self) -> None:
        """Forward everything again."""
        self._do("heal")

    def _do(self, name: str, *arguments: object) -> None:
        self._network.order("do", self._number, name, *arguments)


class _Exchange:
    """What is in the process."""

    def __init__(self, directory: Path, stack: AsyncExitStack) -> None:
        self._directory = directory
        self._stack = stack
        self._proxies: list[Proxy] = []

    async def carry_out(self, name: str, *arguments: Any) -> Any:
        return await getattr(self, f"_{name}")(*arguments)

    async def _link(self, upstream: str) -> tuple[int, str]:
        proxy = await self._stack.enter_async_context(Proxy(upstream))
        self._proxies.append(proxy)
        return len(self._proxies) - 1, proxy.address

    async def _gateway(self, upstream: str, delay: float) -> str:
        gateway = Gateway(self._directory, upstream, delay)
        return (await self._stack.enter_async_context(gateway)).address

    async def _do(self, number: int, name: str, *arguments: Any) -> None:
        getattr(self._proxies[number], name)(*arguments)


async def _main(directory: Path) -> None:
    loop = asyncio.get_running_loop()
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with AsyncExitStack() as stack:
        exchange = _Exchange(directory, stack)
        while order := await orders.readline():
            sys.stdout.write(json.dumps(await exchange.carry_out(*json.loads(order))) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1])))
