"""PostgreSQL with a synchronous standby: acknowledged writes are on both servers."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from tests.support.postgres import PostgresServer
from tests.support.standby import StandbyServer


class Pair:
    """A primary and its synchronous standby, which may replace it."""

    def __init__(self) -> None:
        # No machine loses power here, and a kill loses no write that the kernel has.
        self.primary: PostgresServer = PostgresServer(fsync=False)
        self.standby: StandbyServer | None = None
        self._path = ""
        self.on_change: Callable[[], None] = lambda: None
        """Called when another server has become the primary."""

    def start(self) -> None:
        """Start both servers."""
        self.primary.start()
        self._add_standby()

    def clear(self) -> None:
        """Switch to an empty database."""
        self._path = urlsplit(self.primary.create_database()).path

    @property
    def address(self) -> str:
        """Address of the primary."""
        return f"127.0.0.1:{self.primary.port}"

    @property
    def standby_address(self) -> str:
        """Address of the standby."""
        assert self.standby is not None
        return f"127.0.0.1:{self.standby.port}"

    def url(self, address: str) -> str:
        """Return the URL of the database at an address that leads to one of the servers."""
        return f"postgresql+asyncpg://token_service:{self.primary._password}@{address}{self._path}"

    def fail_over(self) -> None:
        """Kill the primary, promote the standby and add a new standby."""
        old, new = self.primary, self.standby
        assert new is not None
        old.kill()
        new.promote()
        self.primary, self.standby = new, None
        self.on_change()
        old.close()
        self._add_standby()

    def close(self) -> None:
        """End both servers and delete their data."""
        for server in (self.standby, self.primary):
            if server is not None:
                server.close()

    def _add_standby(self) -> None:
        standby = StandbyServer(self.primary)
        try:
            standby.start()
            standby.make_synchronous()
        except BaseException:
            standby.close()
            raise
        self.standby = standby
