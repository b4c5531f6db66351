"""Exclusive ownership of a Unix socket path."""

from __future__ import annotations

import fcntl
import os
import socket
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final
from urllib.parse import quote

from token_service.errors import ConfigurationError

_MODE: Final = 0o660
"""Access for owner and group: a gateway that runs as another user connects as a member of the group."""


class UnixSocketPath:
    """The path of a socket, owned from `take` until `release`.

    gRPC removes any socket at the path, even the socket of a running server. So the owner holds a lock on a file beside
    the socket. The lock ends with the process; the next owner removes the socket of a killed server.
    """

    def __init__(self, address: str) -> None:
        """Set the address, as `unix:path`."""
        self._path = Path(address.removeprefix("unix:"))
        self._lock = -1

    @property
    def target(self) -> str:
        """The address in gRPC's syntax."""
        return f"unix:{quote(str(self._path))}"

    def take(self) -> None:
        """Take the path. Raises `ConfigurationError` if another server has it."""
        lock = self._path.with_name(f"{self._path.name}.lock")
        try:
            self._lock = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise self._refusal("another server listens there") from None
            self._remove_stale()
        except OSError as error:
            self._close()
            raise self._refusal(f"{error.filename or self._path}: {error.strerror}") from None
        except ConfigurationError:
            self._close()
            raise

    def check(self) -> None:
        """Check that a socket can be created at the path, without taking it.

        Raises `ConfigurationError` if it can't.
        """
        try:
            if os.path.lexists(self._path) and not stat.S_ISSOCK(self._path.lstat().st_mode):
                raise self._refusal("the file there is not a socket")
            directory = self._path.parent
            if not directory.is_dir():
                raise self._refusal(f"{directory} is not a directory")
            if not os.access(directory, os.W_OK):
                raise self._refusal(f"{directory} can't be written to")
        except OSError as error:
            raise self._refusal(f"{error.filename}: {error.strerror}") from None

    def share(self) -> None:
        """Let only owner and group connect, whatever the umask is."""
        self._path.chmod(_MODE)

    def release(self) -> None:
        """Remove the socket, if this process has taken the path."""
        if self._lock >= 0:
            with suppress(OSError):
                self._path.unlink()
        self._close()

    def _close(self) -> None:
        if self._lock >= 0:
            os.close(self._lock)
            self._lock = -1

    def _remove_stale(self) -> None:
        try:
            mode = self._path.lstat().st_mode
        except FileNotFoundError:
            return
        if not stat.S_ISSOCK(mode):
            raise self._refusal("the file there is not a socket")
        with socket.socket(socket.AF_UNIX) as probe:
            probe.setblocking(False)
            try:
                probe.connect(str(self._path))
            except ConnectionRefusedError:
                self._path.unlink()
                return
            except BlockingIOError:  # a listener with a full backlog
                pass
        raise self._refusal("another program listens there")

    def _refusal(self, why: str) -> ConfigurationError:
        return ConfigurationError(
            f"TOKEN_SERVICE_GRPC_ADDRESS: can't listen on unix:{self._path} ({why}); choose another with "
            "--grpc-address unix:PATH or HOST:PORT"
        )
