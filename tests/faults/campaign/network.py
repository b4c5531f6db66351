"""The network between the processes, in its own process: proxies that a campaign cuts, holds and slows.

`python -m tests.faults.campaign.network DIRECTORY` reads orders as JSON lines from its standard input and answers
each with a line. It ends when its input ends.
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
"""Seconds within which the process must end after its input ended."""


class Network:
    """The network process, as the campaign controls it. Any thread may give orders."""

    def __init__(self, directory: Path) -> None:
        """`directory`: the directory of the certificates and of the network's log."""
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
        """End the process."""
        with self._process as process:
            assert process.stdin is not None
            process.stdin.close()
            try:
                process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                process.kill()

    def link(self, upstream: str) -> Link:
        """Add a proxy in front of `host:port`."""
        return Link(self, *self.order("link", upstream))

    def gateway(self, upstream: str, delay: float) -> str:
        """Add a `Gateway` in front of a node and return its address."""
        address: str = self.order("gateway", upstream, delay)
        return address

    def order(self, name: str, *arguments: object) -> Any:
        """Execute an order in the process and return its result."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with self._lock:
            self._process.stdin.write(json.dumps([name, *arguments]).encode() + b"\n")
            self._process.stdin.flush()
            answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError("the network process has ended: read network.log")
        return json.loads(answer)


class Link:
    """A proxy in the network process, with the operations of `Proxy`."""

    def __init__(self, network: Network, number: int, address: str) -> None:
        self._network = network
        self._number = number
        self.address = address

    def lead_to(self, upstream: str) -> None:
        """Forward new connections to this `host:port` and reset existing ones."""
        self._do("lead_to", upstream)
        self._do("reset")

    def cut(self) -> None:
        """Reset existing connections and refuse new ones."""
        self._do("cut")

    def hold(self) -> None:
        """Let nothing arrive before `heal`."""
        self._do("hold")

    def reset(self) -> None:
        """Reset existing connections and accept new ones."""
        self._do("reset")

    def slow(self, seconds: float) -> None:
        """Delay each piece of data by `seconds`."""
        self._do("slow", seconds)

    def heal(self) -> None:
        """Forward everything again."""
        self._do("heal")

    def _do(self, name: str, *arguments: object) -> None:
        self._network.order("do", self._number, name, *arguments)


class _Exchange:
    """The proxies and gateways inside the process."""

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
