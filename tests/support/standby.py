"""A hot standby of a real PostgreSQL, by streaming replication, that can be promoted."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.deadline import eventually_sync
from tests.support.postgres import PostgresServer

if TYPE_CHECKING:
    from pathlib import Path


class StandbyServer(PostgresServer):
    """A copy of `primary` that follows it and answers what only reads.

        with PostgresServer() as primary, StandbyServer(primary) as standby:
            standby.make_synchronous()  # a commit of the primary returns once it is here, too
            ...
            primary.kill()
            standby.promote()

    `primary` must run when the standby is started for the first time. A primary that was replaced comes back
    as a new `StandbyServer` of the server that replaced it.
    """

    def __init__(self, primary: PostgresServer, *, name: str = "standby") -> None:
        """`name`: its `application_name`, which the primary knows it by."""
        super().__init__(binaries=primary._binaries)
        self._primary = primary
        self._password = primary._password  # a copy has the roles of the original
        self.name = name

    def make_synchronous(self) -> None:
        """Have the primary acknowledge no commit before it is in the log of the standby."""
        self._primary.configure(synchronous_standby_names=self.name)
        state = f"SELECT sync_state = 'sync' FROM pg_stat_replication WHERE application_name = '{self.name}'"
        eventually_sync(lambda: self._primary.query(state))

    def catch_up(self) -> None:
        """Return once everything is here that the primary has written before this call."""
        position = self._primary.query("SELECT pg_current_wal_flush_lsn()::text")
        eventually_sync(lambda: self.query(f"SELECT pg_last_wal_replay_lsn() >= '{position}'"))

    def stop_following(self) -> None:
        """Take nothing over from the primary from now on; the primary must not be waiting for it."""
        self.configure(primary_conninfo="")
        receiving = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
        eventually_sync(lambda: self.query(receiving))

    def promote(self) -> None:
        """Make it a primary, on a timeline of its own; returns when it can be written to."""
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
        # What the primary waits for is no matter of its copy's.
        settings = data / "postgresql.auto.conf"
        kept = [
            line
            for line in settings.read_text().splitlines(keepends=True)
            if not line.startswith("synchronous_standby_names")
        ]
        settings.write_text("".join(kept))
