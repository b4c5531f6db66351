"""A server that answers HTTP requests with any bytes, at any pace."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Self, TypeAlias

Respond: TypeAlias = Callable[[socket.socket], None]


class RawHttpServer:
    """Calls `respond` for each connection after a request arrived, in its own thread."""

    def __init__(self, respond: Respond) -> None:
        self.respond = respond
        self.requests = 0
        self.closing = threading.Event()
        """Set at the end of the test; a slow sender waits for it between two bytes."""
        self._socket = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept)

    def __enter__(self) -> Self:
        self._accepting.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.closing.set()
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._accepting.join()
        for thread in self._threads:
            thread.join()

    @property
    def url(self) -> str:
        """URL of the key set."""
        return f"http://127.0.0.1:{self._socket.getsockname()[1]}/jwks"

    def drip(self, connection: socket.socket, start: bytes, again: bytes, pause: float = 0.05) -> None:
        """Send `start`, then `again` every `pause` seconds until the client disconnects or the test ends."""
        connection.sendall(start)
        while not self.closing.wait(pause):
            connection.sendall(again)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self._threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            try:
                connection.recv(65536)
                self.requests += 1
                self.respond(connection)
            except OSError:
                pass  # the client has disconnected


def answer(body: bytes, status: str = "200 OK") -> Respond:
    """Return a responder that sends a complete, correct answer."""
    head = f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    return send(head.encode() + body)


def send(data: bytes) -> Respond:
    """Return a responder that sends these bytes only."""
    return lambda connection: connection.sendall(data)
