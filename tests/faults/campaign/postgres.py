"""PostgreSQL with a synchronous standby: what is acknowledged is on both."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

from tests.support.postgres import PostgresServer
from tests.support.standby import StandbyServer


class Pair:
    """A primary and its synchronous standby, which may take its place."""

    def __init__(self) -> None:
        # Nothing here loses power, and a kill loses nothing that was written.
        self.primary: PostgresServer = PostgresServer(fsync=False)
        self.standby: StandbyServer | None = None
        self._path = ""
        self.on_change: Callable[[], None] = lambda: None
        """Called when another server has become the primary."""

    def start(self) -> None:
        """Start both."""
        self.primary.start()
        self._add_standby()

    def clear(self) -> None:
        """Go on with an empty database."""
        self._path = urlsplit(self.primary.create_database()).path

    @property
    def address(self) -> str:
        """Of the primary."""
        return f"127.0.0.1:{self.primary.port}"

    @property
    def standby_address(self) -> str:
        """Of the standby."""
        assert self.standby is not None
        return f"127.0.0.1:{self.standby.port}"

    def url(self, address: str) -> str:
        """URL of the database at an address that leads to one of the servers."""
        return f"postgresql+asyncpg://token_service:{self.primary._password}@{address}{self._path}"

    def fail_over(self) -> None:
        """Kill the primary and promote the standby, which gets a standby of its own."""
        old, new = self.primary, self.standby
        assert new is not None
        old.kill()
        new.promote()
        self.primary, self.standby = new, None
        self.on_change()
        old.close()
        self._add_standby()

    def close(self) -> None:
        """End both and delete them."""
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
