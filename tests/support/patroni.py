"""A cluster of PostgreSQL under Patroni: the programs from PATH, or from Debian's packages.

Each member runs the configuration that `docs/production.md` shows, with addresses, passwords and paths of its own.
"""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import secrets
import shutil
import subprocess
import tempfile
import urllib.request
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import asyncpg
import psutil

from tests.support import debian, reaper
from tests.support.deadline import eventually_sync
from tests.support.managed import ManagedProcess, as_user
from tests.support.ports import free_port, release_port
from tests.support.postgres import PostgresBinaries, _execute, _fetchval, _run
from tests.support.shared_memory import remove_segment

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

_CACHE = "patroni"
_PROGRAMS = ("patroni", "patronictl")
_REFUSED = "Synchronous replication key updated by someone else\n"
_STUCK_AFTER = 4
"""Refused writes, one in each loop of 5 seconds, after which Patroni does not recover by itself."""
_TIMEOUT = 240
"""Seconds for changes of a cluster on a busy machine. A failover alone takes `ttl` and more."""


def find_patroni() -> Path:
    """Return the directory of `patroni` and `patronictl`, installing them if possible. Raise `RuntimeError`."""
    found, problem = _present(), ""
    if found is None:
        found, problem = debian.fetch(_CACHE, "patroni", (), _present)
    if found is None:
        raise RuntimeError(
            f"Patroni is needed for these tests and could not be installed ({problem}). "
            "Install it, for example: apt-get install patroni"
        )
    return found


def _present() -> Path | None:
    places = os.pathsep.join((os.environ.get("PATH", os.defpath), f"{debian.cache(_CACHE)}/usr/bin"))
    found = shutil.which("patroni", path=places)
    return Path(found).parent if found else None


def find_postgres() -> PostgresBinaries:
    """Return PostgreSQL with the programs that Patroni calls. The wheel lacks some of them."""
    found = _complete(PostgresBinaries.on_path()) or _debian_postgres()
    if found is None:
        found, problem = debian.fetch("postgresql", "postgresql-15", (), _debian_postgres)
        if found is None:
            raise RuntimeError(f"PostgreSQL with pg_rewind is needed for these tests ({problem})")
    return found


def _debian_postgres() -> PostgresBinaries | None:
    roots = (Path("/"), debian.cache("postgresql"))
    found = [place for root in roots for place in sorted(root.glob("usr/lib/postgresql/*/bin"), reverse=True)]
    return next(filter(None, (_complete(PostgresBinaries.on_path(str(place))) for place in found)), None)


def _complete(binaries: PostgresBinaries | None) -> PostgresBinaries | None:
    needed = ("pg_ctl", "pg_controldata", "pg_rewind", "pg_basebackup", "pg_isready")
    if binaries is None or not all((binaries.postgres.parent / name).exists() for name in needed):
        return None
    return binaries


class Member:
    """One member: Patroni and the PostgreSQL that it started."""

    def __init__(self, name: str, directory: Path, configuration: str, ports: tuple[int, int]) -> None:
        self.name = name
        self.port, self.rest_port = ports
        self._directory = directory
        self._configuration = configuration
        self._process: ManagedProcess | None = None
        self._refused_before = 0
        self._watched: set[int] = set()

    @property
    def file(self) -> Path:
        """The configuration of Patroni."""
        return self._directory / "patroni.yml"

    @property
    def address(self) -> str:
        """`host:port` of PostgreSQL."""
        return f"127.0.0.1:{self.port}"

    def start(self, programs: Path, user: tuple[int, int] | None) -> None:
        """Start Patroni, which starts PostgreSQL."""
        if not self._directory.exists():
            self._directory.mkdir(mode=0o700)
            self.file.write_text(self._configuration)
            if user is not None:
                for path in (self._directory, self.file):
                    os.chown(path, *user)
        self._refused_before = self._process.log_text().count(_REFUSED) if self._process is not None else 0
        self._process = ManagedProcess(
            [programs / "patroni", self.file],
            log=self._directory.parent / f"{self.name}.log",
            env=environment(),
            cwd=self._directory,
            user=user and user[0],
            group=user and user[1],
        )

    def kill_patroni(self) -> None:
        """Send SIGKILL to Patroni alone. PostgreSQL continues, and no agent ever demotes it."""
        assert self._process is not None
        self._process.kill()

    def kill(self) -> None:
        """Send SIGKILL to PostgreSQL and Patroni."""
        server = self._postmaster()
        if self._process is not None:
            self._process.kill()
        for process in server:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        eventually_sync(
            lambda: (
                not any(
                    process.is_running() and process.status() != psutil.STATUS_ZOMBIE for process in server
                )
            )
        )
        remove_segment(self._directory / "data")

    def pause(self) -> None:
        """Stop Patroni and PostgreSQL without closing anything."""
        assert self._process is not None
        self._process.pause()
        self.pause_postgres()

    def pause_postgres(self) -> None:
        """Stop PostgreSQL alone, parents first, so that no process notices a stopped child."""
        for process in self._postmaster():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.suspend()

    def resume_postgres(self) -> None:
        """Undo `pause_postgres`."""
        for process in self._postmaster():
            with contextlib.suppress(psutil.NoSuchProcess):
                process.resume()

    def pause_patroni(self) -> None:
        """Stop Patroni alone."""
        assert self._process is not None
        self._process.pause()

    def resume_patroni(self) -> None:
        """Undo `pause_patroni`."""
        assert self._process is not None
        self._process.resume()

    def cluster(self) -> Mapping[str, Mapping[str, Any]]:
        """Return what this member knows of each member; empty if it does not answer."""
        with contextlib.suppress(OSError, ValueError):
            url = f"http://127.0.0.1:{self.rest_port}/cluster"
            with urllib.request.urlopen(url, timeout=5) as answer:
                return {member["name"]: member for member in json.loads(answer.read()).get("members", ())}
        return {}

    def refused_writes(self) -> int:
        """Return how many of its writes of the synchronous standby etcd refused since this Patroni was started."""
        if self._process is None or not self._process.running:
            return 0
        return self._process.log_text().count(_REFUSED) - self._refused_before

    def log_tail(self) -> str:
        """Return the last lines of Patroni and PostgreSQL."""
        return self._process.log_tail(80) if self._process is not None else ""

    def _postmaster(self) -> list[psutil.Process]:
        with contextlib.suppress(OSError, IndexError, ValueError, psutil.NoSuchProcess):
            pid = int((self._directory / "data" / "postmaster.pid").read_text().splitlines()[0])
            root = psutil.Process(pid)
            if str(self._directory) not in " ".join(root.cmdline()):
                return []  # the server was killed, and another process has its id
            if root.pid not in self._watched:
                self._watched.add(root.pid)
                reaper.watch(root.pid)  # Patroni starts it in a session of its own
            return [root, *root.children(recursive=True)]
        return []


class PatroniCluster:
    """Three members under one etcd, with an empty database for the service.

    `page` is the configuration of one member, with the placeholders of `docs/production.md`.
    """

    def __init__(self, page: str, etcd_address: str, changes: Mapping[str, str] | None = None) -> None:
        """`changes`: texts of the configuration that are replaced."""
        self._page = page
        self._etcd = etcd_address
        self._scope = page.partition("scope: ")[2].split()[0]
        self._changes = dict(changes or {})
        self._password = secrets.token_hex(16)
        self._directory: Path | None = None
        self._user: tuple[int, int] | None = None
        self._programs = Path()
        self.members: dict[str, Member] = {}
        self._problem = ""
        """Why the cluster is not waited for any more."""

    @property
    def url(self) -> str:
        """URL of the service's database with all members."""
        hosts = ",".join(member.address for member in self.members.values())
        return f"postgresql://token_service:{self._password}@{hosts}/token_service"

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Kill the members and delete their files."""
        for member in self.members.values():
            member.kill()
            release_port(member.port)
            release_port(member.rest_port)
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)

    def start(self, member: Member) -> None:
        """Start a member that was killed."""
        member.start(self._programs, self._user)

    def resume(self, member: Member) -> None:
        """Continue the PostgreSQL of a paused member, with its connections, and start its Patroni again.

        In production the watchdog resets a machine whose Patroni was stopped; a machine of tests has none. There,
        Patroni 3.0 would go on with what it knew of etcd and take the lead back from its successor without comparing,
        which rewinds the cluster past acknowledged commits.
        """
        member.kill_patroni()
        member.resume_postgres()
        self.start(member)

    def leader(self, *, except_for: Member | None = None) -> Member:
        """Wait until a member leads and accepts writes; return it."""
        return eventually_sync(lambda: self._leader(except_for), timeout=_TIMEOUT, interval=0.2)

    def settled(self, *, followers: int = 2, synchronous: bool = True) -> Member:
        """Wait until the leader has so many streaming followers, one of them synchronous; return the leader.

        A cluster that did not become whole once is not waited for again.
        """
        if self._problem:
            raise RuntimeError(self._problem)

        def whole() -> Member | None:
            self._replace_stuck_agents()
            return self._settled(followers, synchronous=synchronous)

        try:
            return eventually_sync(whole, timeout=_TIMEOUT, interval=0.2)
        except AssertionError as error:
            self._problem = f"the cluster was not whole within {_TIMEOUT} s:\n{self.log_tails()}"
            raise RuntimeError(self._problem) from error

    def demoted(self, member: Member) -> None:
        """Wait until a member answers as a standby."""
        try:
            eventually_sync(lambda: self._is_standby(member), timeout=90, interval=0.2)
        except AssertionError as error:
            raise RuntimeError(self.log_tails()) from error

    def follower(self, *, synchronous: bool) -> Member:
        """Return a follower that is synchronous, or one that is not."""
        role = "sync_standby" if synchronous else "replica"
        return eventually_sync(
            lambda: next(
                (self.members[name] for name, seen in self._seen().items() if seen["role"] == role), None
            ),
            timeout=_TIMEOUT,
            interval=0.2,
        )

    def switch_over(self, candidate: Member) -> None:
        """Run `patronictl switchover`."""
        leader = self.leader()
        self.control("switchover", "--leader", leader.name, "--candidate", candidate.name, "--force")

    def control(self, command: str, *arguments: str) -> str:
        """Run a command of `patronictl` for this cluster and return its output."""
        file = next(iter(self.members.values())).file
        done = subprocess.run(
            as_user(
                [self._programs / "patronictl", "-c", file, command, self._scope, *arguments],
                *(self._user or (None, None)),
            ),
            env=environment(),
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            cwd="/",
        )
        if done.returncode != 0:
            raise RuntimeError(f"patronictl {command} failed:\n{done.stdout}{done.stderr}")
        return done.stdout

    def stop_following(self, members: Sequence[Member]) -> None:
        """Stop replication to members whose Patroni is stopped until `resume_agents`."""
        for member in members:
            self.demoted(member)
            member.pause_patroni()
        for member in members:
            self.demoted(member)
            changes = ("ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()")
            _run(_execute(self._admin_url(member), *changes))
        receiving = "SELECT count(*) = 0 FROM pg_stat_wal_receiver"
        for member in members:
            eventually_sync(lambda member=member: self.query(member, receiving))  # type: ignore[misc]

    def resume_agents(self, members: Sequence[Member]) -> None:
        """Continue Patroni, which may promote one of the members."""
        for member in members:
            member.resume_patroni()

    def query(self, member: Member, query: str, database: str = "postgres") -> Any:
        """Return the single value of a query by the administrator."""
        return _run(_fetchval(self._admin_url(member, database), query))

    def log_tails(self) -> str:
        """Return the last lines of every member, for a failure message."""
        return "\n".join(f"{member.name}:\n{member.log_tail()}" for member in self.members.values())

    def _start(self) -> None:
        self._programs = find_patroni()
        binaries = find_postgres()
        self._directory = directory = Path(tempfile.mkdtemp(prefix="token-service-patroni-"))
        if os.getuid() == 0:
            nobody = pwd.getpwnam("nobody")
            self._user = (nobody.pw_uid, nobody.pw_gid)
            binaries = binaries.readable_by(nobody.pw_uid, directory)
            directory.chmod(0o711)
        for name in ("one", "two", "three"):
            self.members[name] = self._member(name, binaries)
        first, *others = self.members.values()
        for member in self.members.values():
            # The others wait for the first one that makes the cluster; a member with an empty directory copies it.
            member._directory.mkdir(mode=0o700)
            member.file.write_text(member._configuration)
            if self._user is not None:
                for path in (member._directory, member.file):
                    os.chown(path, *self._user)
        for member in (first, *others):
            self.start(member)
        try:
            leader = self.leader()
            self._make_database(leader)
        except AssertionError as error:
            raise RuntimeError(self.log_tails()) from error

    def _member(self, name: str, binaries: PostgresBinaries) -> Member:
        assert self._directory is not None
        directory = self._directory / name
        ports = (free_port(), free_port())
        text = self._page
        replaced = {
            "name: one": f"name: {name}",
            "10.0.0.21:2379,10.0.0.22:2379,10.0.0.23:2379": self._etcd,
            "10.0.0.11:8008": f"127.0.0.1:{ports[1]}",
            "10.0.0.11:5432": f"127.0.0.1:{ports[0]}",
            "10.0.0.0/24": "127.0.0.1/32",
            "hostssl": "host",
            "/var/lib/postgresql/tokens": str(directory / "data"),
            "/usr/lib/postgresql/15/bin": str(binaries.postgres.parent),
            "mode: required": "mode: off",  # a machine of tests has no watchdog
            "PASSWORD": self._password,
            **self._changes,
        }
        for shown, real in replaced.items():
            assert shown in text, f"the configuration of the page lacks {shown!r}"
            text = text.replace(shown, real)
        return Member(name, directory, text, ports)

    def _make_database(self, leader: Member) -> None:
        _run(
            _execute(
                self._admin_url(leader),
                f"CREATE ROLE token_service LOGIN PASSWORD '{self._password}'",
                "CREATE DATABASE token_service OWNER token_service ENCODING 'UTF8' TEMPLATE template0",
            )
        )

    def _admin_url(self, member: Member, database: str = "postgres") -> str:
        return f"postgresql://postgres:{self._password}@{member.address}/{database}"

    def _seen(self) -> Mapping[str, Mapping[str, Any]]:
        return next(filter(None, (member.cluster() for member in self.members.values())), {})

    def _leader(self, except_for: Member | None) -> Member | None:
        for name, seen in self._seen().items():
            member = self.members[name]
            if seen["role"] == "leader" and seen["state"] == "running" and member is not except_for:
                with contextlib.suppress(OSError, asyncpg.PostgresError):
                    if not self.query(member, "SELECT pg_is_in_recovery()"):
                        return member
        return None

    def _replace_stuck_agents(self) -> None:
        """Start Patroni again, without PostgreSQL, at each member where it can't write which standby is synchronous.

        If the answer of etcd to such a write is late, Patroni 3.0 repeats the write, which etcd refuses because it was
        done, and compares with the outdated revision of the key from then on.
        """
        for member in self.members.values():
            if member.refused_writes() >= _STUCK_AFTER:
                member.kill_patroni()
                self.start(member)

    def _is_standby(self, member: Member) -> bool:
        with contextlib.suppress(OSError, asyncpg.PostgresError):
            return bool(self.query(member, "SELECT pg_is_in_recovery()"))
        return False

    def _settled(self, followers: int, *, synchronous: bool) -> Member | None:
        leader = self._leader(None)
        if leader is None:
            return None
        states = self.query(
            leader,
            "SELECT string_agg(sync_state, ',') FROM pg_stat_replication WHERE state = 'streaming' AND application_name <> 'pg_basebackup'",
        )
        known = (states or "").split(",") if states else []
        ready = len(known) >= followers and ("sync" in known or not synchronous)
        if synchronous:
            ready = ready and any(seen["role"] == "sync_standby" for seen in self._seen().values())
        return leader if ready else None


def environment() -> dict[str, str]:
    """Return the environment of Patroni's programs, which may be unpacked instead of installed."""
    unpacked = debian.cache(_CACHE) / "usr" / "lib" / "python3" / "dist-packages"
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "LC_ALL": "C.UTF-8",
        "TZ": "UTC",
        "HOME": tempfile.gettempdir(),
        **({"PYTHONPATH": str(unpacked)} if unpacked.exists() else {}),
    }


def configuration(page: str) -> str:
    """Return the configuration of a member from the text of a page."""
    block: Sequence[str] = page.partition("```yaml\nscope: tokens\n")
    assert block[1], "the page shows no configuration of Patroni"
    return "scope: tokens\n" + block[2].partition("```")[0]
