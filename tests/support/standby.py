"""A hot standby of a real PostgreSQL, by streaming replication, that can be promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.deadline import eventually_sync
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from pathlib import Path


class StandbyServer(PostgresServer):
    """A copy of `primary` that follows it and answers read-only queries.

        with PostgresServer() as primary, StandbyServer(primary) as standby:
            standby.make_synchronous()  # a commit of the primary waits for the standby
            ...
            primary.kill()
            standby.promote()

    `primary` must run when the standby is started for the first time. A replaced primary returns as a new
    `StandbyServer` of the server that replaced it.
    """

    def __init__(self, primary: PostgresServer, *, name: str = "standby") -> None:
        """`name`: its `application_name`, by which the primary knows it."""
        super().__init__(binaries=primary._binaries)
        self._primary = primary
        self._password = primary._password  # a copy has the same roles
        self.name = name

    def make_synchronous(self) -> None:
        """Make the primary acknowledge commits only after they are in the log of the standby."""
        self._primary.configure(synchronous_standby_names=self.name)
        state = f"SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = '{self.name}'"
        eventually_sync(lambda: self._primary.query(state))

    def catch_up(self) -> None:
        """Return once the standby has everything that the primary has written before this call."""
        position = self._primary.query("SELECT pg_current_wal_flush_lsn()::text")
        eventually_sync(lambda: self.query(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"))

    def stop_following(self) -> None:
        """Stop replication. The primary must not wait for the standby."""
        self.configure(primary_conninfo="")
        receiving = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
        eventually_sync(lambda: self.query(receiving))

    def promote(self) -> None:
        """Make it a primary on a new timeline, and return when it accepts writes."""
        self.query("SELECT pg_promote()")
        eventually_sync(lambda: self.query("SELECT NOT pg_is_in_recovery()"))

    def _fill(self, directory: Path) -> None:
        data = directory / "data"
        self._make_data(data)
        program = self._binaries.postgres.resolve().parent / "pg_basebackup"
        origin = f"host=127.0.0.1 port={self._primary.port} user=token_service application_name={self.name}"
        self._run_program(
            [program, "-D", data, "-d", origin, "-R", "-X", "stream", "-c", "fast", "--no-sync"],
            directory,
            PGPASSWORD=self._password,
        )
        # A copy must not wait for the standby of its primary.
        settings = data / "postgresql.auto.conf"
        kept = [
            line
            for line in settings.read_text().splitlines(keepends=True)
            if not line.startswith("synchronous_standby_names")
        ]
        settings.write_text("".join(kept))
